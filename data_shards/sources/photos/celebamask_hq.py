"""CelebAMask-HQ (Lee et al., "MaskGAN", CVPR 2020) as it is published: CelebA-HQ's images with masks and labels.

CelebA-HQ-img/0.jpg ...                  the images
CelebAMask-HQ-mask-anno/0/00000_skin.png ...  masks of parts of the faces
CelebA-HQ-to-CelebA-mapping.txt          idx, orig_idx, orig_file: the image of CelebA that each one was made of
CelebAMask-HQ-attribute-anno.txt         the 40 attributes of CelebA
CelebAMask-HQ-pose-anno.txt              angles of the heads
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from common.errors import UserError
from data_shards.format.manifest import Label
from data_shards.sources.containers.image_store import Photo

from .crop_and_resize import number_in
from .label_files import Kind, ListedImage, Table, TextFile, read_columns, read_table

IMAGES = "CelebA-HQ-img"
_MASKS = {"CelebAMask-HQ-mask-anno", "CelebAMaskHQ-mask", "CelebA-HQ-mask"}  # published, merged, and in other copies
ATTRIBUTES = Kind("CelebAMask-HQ-attribute-anno", classes=("no", "yes"))
_MAPPING, _POSE = "CelebA-HQ-to-CelebA-mapping.txt", "CelebAMask-HQ-pose-anno.txt"
_ATTRIBUTES = f"{ATTRIBUTES.stem}.txt"


class Beside(NamedTuple):
    """What the text files of CelebAMask-HQ say. mapping: the image of CelebA that each one was made of."""

    mapping: list[ListedImage]
    tables: list[Table]
    notes: tuple[str, ...]


NONE = Beside([], [], ())


def images_alone(photos: Sequence[Photo], src: Path) -> tuple[list[Photo], tuple[str, ...]]:
    """Return the images of CelebAMask-HQ without its masks, and a note on how many were left out.

    Photos of any other layout come back as they are. Raises UserError where there are masks alone.
    """
    images = [photo for photo in photos if IMAGES in _folders(photo)]
    images = images or [photo for photo in photos if not _MASKS.intersection(_folders(photo))]
    if not images:
        raise UserError(f"{src}: holds masks of CelebAMask-HQ alone; name the folder that holds {IMAGES}")
    count = len(photos) - len(images)
    return images, (f"{count:,} masks and other images outside {IMAGES} are left out",) if count else ()


def _folders(photo: Photo) -> tuple[str, ...]:
    return PurePosixPath(photo.path).parts[:-1]


def text_files(src: Path) -> Beside:
    """Read the text files of CelebAMask-HQ in or beside `src`, a folder or a zip; empty where there are none."""
    found = {name: path for place in _places(src) for name, path in _texts(place).items()}
    mapping, origins = _read_mapping(found[_MAPPING]) if _MAPPING in found else ([], None)
    tables = [origins] if origins is not None else []
    tables += [read_table(found[_ATTRIBUTES], ATTRIBUTES)] if _ATTRIBUTES in found else []
    notes = []
    if mapping:
        notes.append("orig_idx and orig_file are numbers in CelebA: orig_file 119614 is its 119614.jpg")
    if _POSE in found:
        notes.append(f"{_POSE} is left out: labels are integers")
    return Beside(mapping, tables, tuple(notes))


def rows_by_number(photos: Sequence[Photo], table: Table) -> list[str]:
    """Return the name of each photo's row: files may be converted or padded with zeros, their numbers stay."""
    names = {number_in(name): name for name in table.rows}
    return [names.get(number_in(photo.name), photo.name) for photo in photos]


def _places(src: Path) -> list[TextFile]:
    """Where the text files may be, the nearest last."""
    if src.is_dir():
        return [*([src.parent] if src.name == IMAGES else []), src, src / "CelebAMask-HQ"]
    inside = [zipfile.Path(src), zipfile.Path(src, "CelebAMask-HQ/")] if zipfile.is_zipfile(src) else []
    return [src.parent, *inside]


def _texts(place: TextFile) -> dict[str, TextFile]:
    """The text files in a folder, by name."""
    files = {name: place / name for name in (_MAPPING, _ATTRIBUTES, _POSE)}
    return {name: path for name, path in files.items() if path.is_file()}


def _read_mapping(path: TextFile) -> tuple[list[ListedImage], Table]:
    """Read the mapping, also as labels: the number of the original, from 0, and the number in its file name."""
    columns = read_columns(path, ("idx", "orig_idx", "orig_file"))
    if not all(row[0].isdigit() and row[1].isdigit() for row in columns):
        raise UserError(f"{path}: idx and orig_idx are not all numbers; copy the published file again")
    mapping = [ListedImage(int(index), file, "") for index, _, file in columns]
    rows: dict[str, tuple[int, ...]] = {}
    for index, original, file in columns:
        rows[f"{index}.jpg"] = (int(original), number_in(file))
    return mapping, Table(path, (Label(name="orig_idx"), Label(name="orig_file")), rows)
