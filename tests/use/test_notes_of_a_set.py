"""What `make` notes of a set is true of its images, and counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import replicas
from tests.support.data_sets import Made, photos, run


def source_of(kind: str, folder: Path) -> Path:
    """A replica of a data set without a grey image, and with no box that is too small."""
    if kind == "folder":
        return photos(folder)
    if kind == "chairs":
        return replicas.chairs(folder, 1)
    if kind == "celeba_hq":
        return replicas.celeba_hq(folder, 2, size=64)
    return replicas.celeba(folder, 2)


@pytest.mark.parametrize("kind", ["folder", "celeba", "celeba_hq", "chairs"])
def test_a_set_in_colour_has_no_note_on_grey_images(tmp_path: Path, kind: str) -> None:
    made = Made(tmp_path / "set", kind, source_of(kind, tmp_path / "src"), "--resolutions", "64")
    assert "grey" not in made.out
    assert not [note for note in made.manifest.notes if "grey" in note]


def test_grey_images_are_counted_in_the_answer_the_manifest_and_info(tmp_path: Path) -> None:
    """Grey, grey with an opaque alpha channel, and black and white. Grey pixels in an RGB file are RGB already."""
    source = photos(tmp_path / "src")
    pixels = np.random.default_rng(0).integers(0, 256, (70, 80), dtype=np.uint8)
    for name, image in {
        "l.png": Image.fromarray(pixels),
        "l.jpg": Image.fromarray(pixels),
        "la.png": Image.merge("LA", (Image.fromarray(pixels), Image.new("L", (80, 70), 255))),
        "bw.png": Image.fromarray(pixels).convert("1"),
        "rgb.png": Image.fromarray(pixels).convert("RGB"),
    }.items():
        image.save(source / "cats" / name)
    made = Made(tmp_path / "set", "folder", source, "--resolutions", "64")
    note = "grey images are stored as RGB (4 of them)"
    assert f"note: {note}\n" in made.out
    assert note in made.manifest.notes
    assert note in json.loads(run("info", made.root, "--json").out)["notes"]


def test_cars_without_a_small_box_have_no_note_on_small_boxes(tmp_path: Path) -> None:
    source = replicas.cars(tmp_path / "src", 3, "flat")
    rows = [(f"car_ims/{i + 1:06d}.jpg", 1, 1, 90, 90, 1, 0) for i in range(3)]
    fields = ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"]
    annotations = replicas.struct_array(rows, fields)
    names = np.array(replicas.CAR_CLASSES, dtype=object).reshape(1, -1)
    replicas.savemat(source / "cars_annos.mat", {"annotations": annotations, "class_names": names})
    made = Made(tmp_path / "set", "cars", source)
    (note,) = made.manifest.notes  # a replica has few images
    assert note.startswith("3 images of the 16,185")
