"""Read label files in text: CelebA's (txt, or the csv of Kaggle) and CelebA-HQ's image_list.txt."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from data_shards.format.manifest import Label

TextFile = Path | zipfile.Path
_AGAIN = "copy the published file again"
_FEW = 5
_NO_OR_YES = ("no", "yes")  # classes of what the files give as -1 and 1


@dataclass(frozen=True)
class Kind:
    """One of CelebA's label files: its name without extension, and its columns where no header gives them."""

    stem: str
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None


ATTRIBUTES = Kind("list_attr_celeba", classes=_NO_OR_YES)
IDENTITY = Kind("identity_CelebA", ("identity",))
LANDMARKS = Kind("list_landmarks_align_celeba")
PARTITION = Kind("list_eval_partition", ("partition",), ("train", "validation", "test"))


class Table(NamedTuple):
    """Integers by image name. labels: one for each column."""

    path: TextFile
    labels: tuple[Label, ...]
    rows: dict[str, tuple[int, ...]]


def find_tables(folders: Sequence[Path], kinds: Sequence[Kind]) -> list[Table]:
    """Read the label files of these kinds that are in the folders, the first of each."""
    tables = []
    for kind in kinds:
        paths = [folder / f"{kind.stem}{suffix}" for folder in folders for suffix in (".txt", ".csv")]
        path = next((p for p in paths if p.is_file()), None)
        if path is not None:
            tables.append(read_table(path, kind))
    return tables


def read_table(path: TextFile, kind: Kind) -> Table:
    """Read rows "NAME INTEGER ..." after an optional line with their number, and an optional header.

    Attributes of -1 / 1 become 0 / 1. Raises UserError where a row or the header is not as published.
    """
    lines = _lines(path)
    count = int(lines.pop(0)[0]) if len(lines[0]) == 1 and lines[0][0].isdigit() else None
    columns = kind.columns
    if lines and not re.fullmatch(r"\d+\.\w+", lines[0][0]):
        header = lines.pop(0)
        columns = columns or tuple(header[1:] if path.name.endswith(".csv") else header)  # txt names no image column
    if not columns:
        raise UserError(f"{path}: has no header with the names of its columns; {_AGAIN}")
    if not lines or (count is not None and count != len(lines)):
        says = f", its first line says {count}" if count is not None else ""
        raise UserError(f"{path}: has {len(lines)} rows{says}; {_AGAIN}")
    rows: dict[str, tuple[int, ...]] = {}
    for line in lines:
        rows[line[0]] = _integers(path, line, len(columns))
    if kind.classes == _NO_OR_YES:
        rows = {name: tuple(int(v > 0) for v in values) for name, values in rows.items()}
    return Table(path, tuple(Label(name=c, classes=kind.classes) for c in columns), rows)


def _lines(path: TextFile) -> list[list[str]]:
    """Split each line that is not empty at commas or spaces."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text ({error}); {_AGAIN}") from None
    lines = [re.split(r"\s*,\s*|\s+", line.strip()) for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path}: is empty; {_AGAIN}")
    return lines


def _integers(path: TextFile, line: list[str], count: int) -> tuple[int, ...]:
    try:
        values = tuple(int(word) for word in line[1:])
    except ValueError as error:
        raise UserError(f"{path}: the row of {line[0]} does not hold integers ({error}); {_AGAIN}") from None
    if len(values) != count:
        raise UserError(f"{path}: the row of {line[0]} has {len(values)} values, not {count}; {_AGAIN}")
    return values


def require_rows(path: TextFile, images: Sequence[str], rows: Sequence[str]) -> tuple[str, ...]:
    """Refuse images that the label file has no row for, because a label cannot be made up.

    images: the names of their rows. Returns a note on rows without an image, if there are any.
    """
    known, there = set(rows), set(images)
    lost = [name for name in images if name not in known]
    if lost:
        remedy = "put the file that belongs to these images there, or move it away"
        raise UserError(f"{path}: has no row for {len(lost)} of {len(images)} images ({few(lost)}); {remedy}")
    spare = [name for name in rows if name not in there]
    return (f"{path.name}: {len(spare)} of {len(rows)} rows have no image ({few(spare)})",) if spare else ()


def few(names: Sequence[str]) -> str:
    """Return the first five names, for a message."""
    return ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")


class ListedImage(NamedTuple):
    """A row of CelebA-HQ's image_list.txt. final_md5 is of the uint8 CHW bytes at 1024 px."""

    number: int
    orig_file: str
    final_md5: str


def read_image_list(path: Path) -> list[ListedImage]:
    """Read the columns idx, orig_file and final_md5 of image_list.txt. Raises UserError where it is not that file."""
    if not path.is_file():
        raise UserError(f"--image-list is {path}: no such file; name CelebA-HQ's image_list.txt")
    rows = []
    for index, file, md5 in read_columns(path, ("idx", "orig_file", "final_md5"), "name CelebA-HQ's image_list.txt"):
        if not index.isdigit() or not re.fullmatch("[0-9a-fA-F]{32}", md5):
            raise UserError(f"{path}: row '{index} {file} {md5}' is not one of an image list; {_AGAIN}")
        rows.append(ListedImage(int(index), file, md5.lower()))
    return rows


def read_columns(path: TextFile, names: Sequence[str], remedy: str = _AGAIN) -> list[tuple[str, ...]]:
    """Read these columns of a table whose first line has their names.

    remedy: where one is missing. Raises UserError where there is no such table.
    """
    header, *lines = _lines(path)
    missing = [name for name in names if name not in header]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; {remedy}")
    if not lines:
        raise UserError(f"{path}: holds no rows; {_AGAIN}")
    short = next((line for line in lines if len(line) != len(header)), None)
    if short is not None:
        raise UserError(f"{path}: row '{' '.join(short)}' has {len(short)} of {len(header)} columns; {_AGAIN}")
    columns = [header.index(name) for name in names]
    return [tuple(line[column] for column in columns) for line in lines]
