"""CelebA-HQ as CelebAMask-HQ publishes it: images among masks, with a mapping to CelebA and attributes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import replicas
from tests.support.data_sets import Made, attempt, refused

COUNT, SIDE = 12, 64
ORIGINALS = [119_613 - 1_000 * number for number in range(COUNT)]


def published(folder: Path) -> Path:
    """CelebAMask-HQ/: the images, two masks of each, and the text files in their published form."""
    root = folder / "CelebAMask-HQ"
    (root / "CelebA-HQ-img").mkdir(parents=True)
    for i in range(COUNT):
        Image.fromarray(replicas.hq_image(i, SIDE)).save(root / f"CelebA-HQ-img/{i}.jpg", quality=95)
        for part in ("skin", "l_eye"):
            path = root / f"CelebAMask-HQ-mask-anno/{i // 6}/{i:05d}_{part}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (SIDE // 2, SIDE // 2), 255).save(path)
    rows = "".join(f"{i} \t {o} \t {o + 1:06d}.jpg\n" for i, o in enumerate(ORIGINALS))
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(f"idx\torig_idx\torig_file\n{rows}")
    rows = "".join(f"{i}.jpg  {' '.join(str(v) for v in row)}\n" for i, row in enumerate(attributes()))
    head = f"{COUNT}\n{' '.join(replicas.ATTRIBUTES)}\n"
    (root / "CelebAMask-HQ-attribute-anno.txt").write_text(head + rows)
    (root / "CelebAMask-HQ-pose-anno.txt").write_text(f"{COUNT}\nYaw Pitch Raw\n0.jpg 1.5 -2.25 0.5\n")
    return root


def attributes() -> np.ndarray:
    return np.random.default_rng(5).choice([-1, 1], (COUNT, 40))


def is_right(made: Made) -> None:
    """The images by number, not by name, with the labels of their own rows; the masks are told, and left out."""
    assert made.names == [f"{i}.jpg" for i in range(COUNT)]
    folder = made.root.parent / "src/CelebAMask-HQ/CelebA-HQ-img"
    truth = [np.asarray(Image.open(folder / name)) for name in made.names]
    np.testing.assert_array_equal(made.pixels(), truth)
    assert made.labels["orig_idx"] == ORIGINALS
    assert made.labels["orig_file"] == [o + 1 for o in ORIGINALS]
    for column, name in enumerate(replicas.ATTRIBUTES):
        assert made.labels[name] == (attributes()[:, column] == 1).astype(int).tolist()
        assert made.classes(name) == ("no", "yes")
    assert "pose-anno.txt is left out" in made.out


@pytest.mark.parametrize("where", [".", "CelebAMask-HQ", "CelebAMask-HQ/CelebA-HQ-img", "a.zip"])
def test_images_mapping_and_attributes_are_read_and_the_masks_left_out(tmp_path: Path, where: str) -> None:
    published(tmp_path / "src")
    if where == "a.zip":
        shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "src", "CelebAMask-HQ")
    source = tmp_path / where if where == "a.zip" else tmp_path / "src" / where
    made = Made(tmp_path / "set", "celeba_hq", source, "--resolutions", SIDE)
    is_right(made)
    told = f"{2 * COUNT} masks and other images outside CelebA-HQ-img are left out" in made.out
    assert told == (not where.endswith("img"))


def test_the_mapping_leads_to_the_label_files_of_celeba(tmp_path: Path) -> None:
    source = published(tmp_path / "src")
    lines = [f"{o + 1:06d}.jpg {o % 7}" for o in ORIGINALS]
    (tmp_path / "anno").mkdir()
    (tmp_path / "anno/identity_CelebA.txt").write_text("\n".join(sorted(lines)) + "\n")
    made = Made(tmp_path / "set", "celeba_hq", source, "--resolutions", SIDE, "--labels", tmp_path / "anno")
    is_right(made)
    assert made.labels["identity"] == [o % 7 for o in ORIGINALS]


def test_images_that_were_converted_keep_their_labels(tmp_path: Path) -> None:
    source = published(tmp_path / "src")
    for path in sorted((source / "CelebA-HQ-img").iterdir()):
        Image.open(path).save(path.with_name(f"{int(path.stem):05d}.png"))
        path.unlink()
    made = Made(tmp_path / "set", "celeba_hq", source, "--resolutions", SIDE)
    assert made.names == [f"{i:05d}.png" for i in range(COUNT)]
    assert made.labels["orig_idx"] == ORIGINALS


def test_rows_that_do_not_belong_to_the_images_are_named(tmp_path: Path) -> None:
    source = published(tmp_path / "src")
    path = source / "CelebAMask-HQ-attribute-anno.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([str(COUNT - 1), *lines[1:-1]]) + "\n")
    refused(attempt("celeba_hq", source, size=SIDE), path, f"no row for 1 of {COUNT} images ({COUNT - 1}.jpg)")
    shutil.rmtree(source / "CelebA-HQ-img")
    refused(attempt("celeba_hq", source, size=SIDE), source, "masks of CelebAMask-HQ alone", "CelebA-HQ-img")
