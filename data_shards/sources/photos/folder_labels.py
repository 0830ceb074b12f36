"""Labels of images of any kind: what files beside them, their container or their sub-folders say.

Sub-folders are the label `class`. Hugging Face's metadata.csv or metadata.jsonl adds labels to it. StyleGAN's
dataset.json takes its place: the tool that writes it spreads images over sub-folders by their number. Rows of parquet
files have their other columns as labels, samples of tars what their json, cls and similar members say.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from common.errors import UserError
from data_shards.format.label_columns import LabelColumns, Numbering, Value, from_text
from data_shards.format.left_out import printable
from data_shards.format.manifest import Label
from data_shards.sources.containers.image_store import Fault, Photo, Store
from data_shards.sources.containers.parquet import ParquetStore
from data_shards.sources.containers.tar_store import TarStore

from .label_files import few

_STYLEGAN, _CSV, _JSONL = "dataset.json", "metadata.csv", "metadata.jsonl"
_FILE_NAME = "file_name"  # the column of Hugging Face's files that names the image
Rows = dict[str, dict[str, Value]]  # by the path of an image


class Labelled(NamedTuple):
    """Images with the values of their labels, notes, and the label files that were read: hashes by path."""

    photos: list[Photo]
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = {}


def label_photos(store: Store, photos: Sequence[Photo]) -> Labelled:
    """Return the images of a store with their labels, and notes on what is left out.

    Raises UserError where a label file is damaged.
    """
    if isinstance(store, ParquetStore):
        return _by_values(photos, store.values(), store.classes())
    if isinstance(store, TarStore):
        return _by_members(store, photos)
    beside = [path for path, why in store.left_out().files if why == "no image"]
    stylegan, hugging_face = (
        _by_files(store, photos, [path for path in beside if PurePosixPath(path).name in names])
        for names in ((_STYLEGAN,), (_CSV, _JSONL))
    )
    folders = _by_folders(photos)
    if stylegan is not None or hugging_face is None:
        return stylegan or folders
    return _joined(hugging_face, folders)


def _joined(files: Labelled, folders: Labelled) -> Labelled:
    """The labels of both; what files say goes before the label of the same name that sub-folders are."""
    if not folders.labels or folders.labels[0].name in {label.name for label in files.labels}:
        return files
    pairs = zip(files.photos, folders.photos, strict=True)
    photos = [photo._replace(labels=photo.labels + by_folder.labels) for photo, by_folder in pairs]
    return files._replace(photos=photos, labels=files.labels + folders.labels)


def _by_folders(photos: Sequence[Photo], folders: Sequence[str] | None = None) -> Labelled:
    """Where the images are in several folders, each gets the label `class`, the number of its folder by name.

    folders: of each image, where its path does not say it.
    """
    parents = folders or [PurePosixPath(photo.path).parent.as_posix() for photo in photos]
    classes = sorted(set(parents))
    if len(classes) < 2:
        return Labelled(list(photos))
    number = {name: i for i, name in enumerate(classes)}
    labelled = [p._replace(labels=(number[parent],)) for p, parent in zip(photos, parents, strict=True)]
    return Labelled(labelled, (Label(name="class", classes=tuple(map(printable, classes))),))


def _by_members(store: TarStore, photos: Sequence[Photo]) -> Labelled:
    """Label the samples of tars by json, cls and similar members, and by folders where these give no class."""
    members = _by_values(photos, store.values(), store.classes())
    beside = ", ".join(f"{name} {count:,}" for name, count in sorted(store.members_beside().items()))
    notes = (*members.notes, *([f"left out, members beside the images: {beside}"] if beside else []))
    return _joined(members._replace(notes=notes), _by_folders(photos, [store.folder_of(photo) for photo in photos]))


def _by_values(
    photos: Sequence[Photo], values: Iterable[Mapping[str, Value]], classes: Mapping[str, tuple[str, ...]]
) -> Labelled:
    """Label images by what is said about each. classes: names of integers, where they are known."""
    rows = list(values)
    survey = LabelColumns()
    for photo, row in zip(photos, rows, strict=True):
        if photo.fault is None:
            survey.add(row)
    labels = survey.labels()
    numbering = Numbering(labels)
    labelled = [p._replace(labels=tuple(dict(numbering(r)).values())) for p, r in zip(photos, rows, strict=True)]
    named = (_with_classes(i, label, labelled, classes.get(label.name)) for i, label in enumerate(labels))
    return Labelled(labelled, tuple(named), survey.notes())


def _with_classes(column: int, label: Label, photos: Sequence[Photo], classes: tuple[str, ...] | None) -> Label:
    """The label with the names of its integers, where there is one for each; -1 is none of them."""
    if label.classes is not None or classes is None:
        return label
    complete = all(-1 <= photo.labels[column] < len(classes) for photo in photos if photo.fault is None)
    return label.model_copy(update={"classes": classes}) if complete else label


def _by_files(store: Store, photos: Sequence[Photo], paths: Sequence[str]) -> Labelled | None:
    """Label images by files of one kind; None where none of them is what its name says."""
    rows: Rows = {}
    files: dict[str, str] = {}
    notes: list[str] = []
    for path in paths:
        try:
            data = store.read(Photo(path, path))
        except Fault as fault:
            notes.append(f"{path} is not read, because it {fault.args[0]}: its labels are left out")
            continue
        found = _read_rows(store.where(Photo(path, path)), path, data)
        if found is not None:
            rows |= found
            files[path] = hashlib.sha256(data).hexdigest()
    if not files and not notes:
        return None
    labelled = _by_values(photos, (rows.get(photo.path, {}) for photo in photos), {})
    told = _notes_on_rows(", ".join(files), rows, [photo.path for photo in photos]) if files else ()
    return labelled._replace(notes=(*notes, *told, *labelled.notes), files=files)


def _notes_on_rows(names: str, rows: Rows, images: Sequence[str]) -> tuple[str, ...]:
    """Notes on images without a row and rows without an image."""
    if not rows:
        return (f"{names}: says that the images have no labels",)
    there = set(images)
    lost = [path for path in images if path not in rows]
    spare = [path for path in rows if path not in there]
    return (
        *([f"{names}: has no row for {len(lost):,} of {len(images):,} images ({few(lost)})"] if lost else []),
        *([f"{names}: {len(spare):,} of {len(rows):,} rows have no image ({few(spare)})"] if spare else []),
    )


def _read_rows(where: str, path: str, data: bytes) -> Rows | None:
    """Read a label file: what it says about each image; None where it is another kind of file of that name."""
    name, folder = PurePosixPath(path).name, posixpath.dirname(path)
    try:
        text = data.decode("utf-8-sig")
        pairs = {_STYLEGAN: _stylegan_rows, _CSV: _csv_rows, _JSONL: _jsonl_rows}[name](text)
        return None if pairs is None else {_image_path(folder, file): values for file, values in pairs}
    except (ValueError, csv.Error) as error:  # bytes that are no text are a ValueError, too
        raise UserError(f"{where}: is no readable label file ({error}); correct it, or move it away") from None


def _image_path(folder: str, file: str) -> str:
    """The path of an image that a label file in `folder` names, from Windows too."""
    return posixpath.normpath(posixpath.join(folder, file.replace("\\", "/")))


def _stylegan_rows(text: str) -> list[tuple[str, dict[str, Value]]] | None:
    """Rows of {"labels": [["00000/img00000000.png", 6], ...]}, or of null: the images have no labels."""
    content: Any = json.loads(text)
    if not isinstance(content, dict) or "labels" not in content:
        return None
    rows = content["labels"]
    rows = list(rows.items()) if isinstance(rows, dict) else rows
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(map(_is_pair, rows)):
        return None
    return [(file, {"class": label}) for file, label in rows]


def _is_pair(row: object) -> bool:
    return isinstance(row, list | tuple) and len(row) == 2 and isinstance(row[0], str)


def _csv_rows(text: str) -> list[tuple[str, dict[str, Value]]] | None:
    reader = csv.DictReader(io.StringIO(text))
    if _FILE_NAME not in (reader.fieldnames or ()):
        return None
    cells = ((row.get(_FILE_NAME), row) for row in reader)
    return [(file, {k: from_text(v) for k, v in row.items() if _is_cell(k, v)}) for file, row in cells if file]


def _is_cell(column: object, value: object) -> bool:
    """Return whether a cell has a value and a column: rows may be longer or shorter than the head."""
    return isinstance(column, str) and isinstance(value, str) and value != "" and column != _FILE_NAME


def _jsonl_rows(text: str) -> list[tuple[str, dict[str, Value]]] | None:
    rows = list(_json_lines(text))
    if not all(isinstance(row, dict) and isinstance(row.get(_FILE_NAME), str) for row in rows):
        return None
    return [
        (row[_FILE_NAME], {name: value for name, value in row.items() if name != _FILE_NAME and value is not None})
        for row in rows
    ]


def _json_lines(text: str) -> Iterator[Any]:
    return (json.loads(line) for line in text.splitlines() if line.strip())
