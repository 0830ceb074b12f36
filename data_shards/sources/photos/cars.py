"""Cars (Krause et al., "3D Object Representations for Fine-Grained Categorization", 2013): cars_train and
cars_test, or the flat copies in car_ims, with the boxes and classes of the devkit's .mat files."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError
from data_shards.format.litter import litter_on_path
from data_shards.format.manifest import Label
from data_shards.format.tars import sha256
from data_shards.sources.containers.image_store import Box, Photo, images_of
from data_shards.sources.containers.stores import open_store
from data_shards.sources.published_counts import fewer

from .crop_and_resize import OwnBox
from .label_files import few, require_rows
from .photo_source import Photos, photos_hash

NO_CLASS = -1  # the label of an image that has none
LEAST = 64  # px: the paper leaves smaller boxes out
_TRAIN, _TEST, _ALL = "cars_train_annos.mat", "cars_test_annos_withlabels.mat", "cars_annos.mat"
_NO_CLASSES = "cars_test_annos.mat"  # the devkit's own annotations of the test images: boxes alone
_META = "cars_meta.mat"
_DEVKIT = "copy the devkit again"


class Car(NamedTuple):
    """A row of the annotations. class_number counts from 1; None: the file has none."""

    box: Box
    class_number: int | None


def cars(src: Path, size: int) -> Photos:
    """Open the cars below the folder or zip `src` as a source; the .mat files are in it or beside it.

    size: of the largest level, px. Boxes with a side below it, or below 64 px, are left out. Raises UserError where
    images or annotations are missing or do not belong together.
    """
    store = open_store(src)
    photos = images_of(store, src)
    mats = _mats(src if src.is_dir() else src.parent)
    tables = [_table_of(photo, mats, src) for photo in photos]
    if _NO_CLASSES not in tables:  # as of a devkit whose test images are not there, or have their classes elsewhere
        mats.pop(_NO_CLASSES, None)
    classes = _classes(mats)
    rows, notes = _matched(photos, tables, mats, src)
    boxed = [_boxed(*pair) for pair in zip(photos, rows, strict=True) if _large(pair[1].box, max(LEAST, size))]
    _check_classes(rows, classes, mats)
    if not boxed:
        remedy = "choose a smaller --resolutions" if size > LEAST else "add images with larger boxes"
        raise UserError(f"{src}: no box has sides of {max(LEAST, size)} px or more; {remedy}")
    recipe = {
        "source": "cars",
        "crop": "bounding box x1, y1, x2, y2 as it stands",
        "least_side": max(LEAST, size),
        "filter": "lanczos, regardless of aspect",
        "size": size,
        "colour": "RGB",
        "label_files": {path.name: sha256(path) for path in mats.values()},
    }
    return Photos(
        data_set="cars",
        store=store,
        photos=tuple(boxed),
        transform=OwnBox(size),
        recipe=recipe,
        listing_sha256=photos_hash(store, boxed),
        own_labels=(Label(name="class", classes=classes),),
        notes=(*notes, *fewer("cars", len(photos)), *_left_out(len(photos) - len(boxed), size), *_without_class(boxed)),
    )


def _boxed(photo: Photo, car: Car) -> Photo:
    return photo._replace(box=car.box, labels=(NO_CLASS if car.class_number is None else car.class_number - 1,))


def _without_class(photos: Sequence[Photo]) -> list[str]:
    """A note on images without a class, where there are some."""
    count = sum(photo.labels == (NO_CLASS,) for photo in photos)
    remedy = f"{_NO_CLASSES} has none; with {_TEST} they have one"
    return [f"{count} images have no class, label {NO_CLASS}: {remedy}"] if count else []


def _left_out(boxes: int, size: int) -> list[str]:
    """A note on the boxes with a side below the least one, where there are some."""
    return [f"{boxes} boxes with a side under {max(LEAST, size)} px are left out"] if boxes else []


def _large(box: Box, least: int) -> bool:
    return box[2] - box[0] >= least and box[3] - box[1] >= least


def _mats(folder: Path) -> dict[str, Path]:
    """The annotation files below a folder, by name."""
    wanted = (_TRAIN, _TEST, _NO_CLASSES, _ALL, _META)
    below = (path for path in sorted(folder.rglob("*.mat"), reverse=True) if path.name in wanted)
    mats = {path.name: path for path in below if litter_on_path(path.relative_to(folder).as_posix()) is None}
    if not mats.keys() - {_META}:
        raise UserError(f"{folder}: holds none of {', '.join(wanted[:-1])}; put the devkit there")
    return {name: path for name, path in mats.items() if not (name == _NO_CLASSES and _TEST in mats)}


def _matched(
    photos: Sequence[Photo], tables: Sequence[str], mats: dict[str, Path], src: Path
) -> tuple[list[Car], list[str]]:
    """Return the annotation of every image, and notes on annotations without an image.

    tables: for each image the name of its annotation file.
    """
    cars = {name: _read(path) for name, path in mats.items() if name != _META}
    keys = [(name, PurePosixPath(photo.path).name) for name, photo in zip(tables, photos, strict=True)]
    _refuse_copies(keys, src)
    files = {name: [file for table, file in keys if table == name] for name in cars}
    notes = [note for name in cars for note in require_rows(mats[name], files[name], list(cars[name]))]
    return [cars[name][file] for name, file in keys], notes


def _table_of(photo: Photo, mats: dict[str, Path], src: Path) -> str:
    """Return the name of the annotation file of an image: by its folder, or the only one that there is."""
    folders = PurePosixPath(photo.path).parent.parts or (src.name,)
    split = {"cars_train": _TRAIN, "cars_test": _NO_CLASSES if _NO_CLASSES in mats else _TEST}
    name = next((split[folder] for folder in folders if folder in split), None)
    if name is None:
        there = [name for name in (_ALL, _TRAIN, _TEST, _NO_CLASSES) if name in mats]
        if len(there) > 1 and there[0] != _ALL:
            remedy = "keep the images in cars_train and cars_test, or one of these files"
            raise UserError(f"{src}: {photo.path} may belong to {' or '.join(there)}; {remedy}")
        name = there[0]
    if name not in mats:
        raise UserError(f"{src}: {photo.path} needs {name}, which is not there; add it, or move these images away")
    return name


def _refuse_copies(keys: Sequence[tuple[str, str]], src: Path) -> None:
    twice = [file for (_, file), times in Counter(keys).items() if times > 1]
    if twice:
        raise UserError(f"{src}: holds more than one image of a name ({few(twice)}); remove the copies")


def _read(path: Path) -> dict[str, Car]:
    """Read the rows of an annotation file, by image file name.

    The boxes count from 1 and are inclusive. The authors' code passes x1, y1, x2, y2 to crop as they are, which loses
    the first column and row, and so does this.
    """
    table = _array(path, "annotations")
    names = table.dtype.names or ()
    file = "fname" if "fname" in names else "relative_im_path"
    fields: tuple[str, ...] = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", file)
    if path.name == _NO_CLASSES:
        fields = tuple(field for field in fields if field != "class")
    lost = [field for field in fields if field not in names]
    if lost:
        raise UserError(f"{path}: annotations has the fields {', '.join(names) or 'none'}, no {lost[0]}; {_DEVKIT}")
    rows: dict[str, Car] = {}
    for row in table:
        try:
            box = int(row["bbox_x1"]), int(row["bbox_y1"]), int(row["bbox_x2"]), int(row["bbox_y2"])
            number = int(row["class"]) if "class" in fields else None
        except (TypeError, ValueError):
            raise UserError(f"{path}: the row of {row[file]} does not hold integers; {_DEVKIT}") from None
        rows[PurePosixPath(str(row[file])).name] = Car(box, number)
    return rows


def _classes(mats: dict[str, Path]) -> tuple[str, ...] | None:
    """Names of classes 1, 2, ...; the combined file holds them, too. None without a file that does."""
    path = mats.get(_META) or mats.get(_ALL)
    return tuple(str(name) for name in _array(path, "class_names")) if path else None


def _check_classes(rows: Sequence[Car], classes: tuple[str, ...] | None, mats: dict[str, Path]) -> None:
    numbers = [row.class_number for row in rows if row.class_number is not None]
    highest = max(numbers, default=0)
    if min(numbers, default=1) < 1 or (classes is not None and highest > len(classes)):
        names = ", ".join(sorted(mats))
        raise UserError(f"{names}: class {highest} of {len(classes or ())} named classes; {_DEVKIT}")


def _array(path: Path, name: str) -> np.ndarray[Any, Any]:
    """Read one array of a .mat file, as a vector."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, squeeze_me=True, variable_names=[name])
    except (MatReadError, ValueError, TypeError, OSError, NotImplementedError, LookupError, zlib.error) as error:
        raise UserError(f"{path}: not a readable .mat file ({error}); {_DEVKIT}") from None
    if name not in content:
        raise UserError(f"{path}: holds no array {name}; {_DEVKIT}")
    return np.atleast_1d(content[name])
