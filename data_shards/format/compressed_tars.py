"""Compressed tars: known by their names or first bytes, and never read. What unpacks each kind is named."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from common.errors import UserError

# First bytes, extension and command of each kind. The commands put x.tar in the place of x.tar.gz, and of x.tgz.
_KINDS = (
    (b"\x1f\x8b", "gz", "gunzip"),
    (b"BZh", "bz2", "bunzip2"),
    (b"\xfd7zXZ\0", "xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "zst", "unzstd --rm"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dm --rm"),
)
_SHORT = {"tgz": "gz", "taz": "gz", "tbz": "bz2", "tbz2": "bz2", "tb2": "bz2", "txz": "xz", "tzst": "zst"}
_NAME = re.compile(rf"\.(?:tar\.(?P<long>gz|bz2|xz|zst|lz4)|(?P<short>{'|'.join(_SHORT)}))$", re.IGNORECASE)


def is_compressed_name(name: str) -> bool:
    """Return whether a file name is that of a compressed tar."""
    return _NAME.search(name) is not None


def is_compressed(path: Path) -> bool:
    """Return whether a file is a compressed tar, by its name or, of one called x.tar, by its first bytes."""
    return is_compressed_name(path.name) or (path.suffix.lower() == ".tar" and _by_first_bytes(path) is not None)


def refuse_compressed(paths: Iterable[Path]) -> None:
    """Raise a UserError where one of these tars is compressed, with the command that unpacks it and all like it."""
    for path in paths:
        kind = _by_name(path.name) or _by_first_bytes(path)
        if kind is not None:
            raise UserError(
                f"{path}: is a compressed tar ({kind}), which cannot be read by position; unpack it and all like it "
                f"with `{_command(path, kind)}`"
            )


def _by_name(name: str) -> str | None:
    match = _NAME.search(name)
    if match is None:
        return None
    return match["long"].lower() if match["long"] else _SHORT[match["short"].lower()]


def _by_first_bytes(path: Path) -> str | None:
    """The kind of a file whose name does not tell: many a compressed tar is called x.tar."""
    if not path.is_file():  # a broken link, or a pipe, which would be waited for: what reads the tar says so
        return None
    with open(path, "rb") as stream:
        first = stream.read(8)
    return next((kind for start, kind, _ in _KINDS if first.startswith(start)), None)


def _command(path: Path, kind: str) -> str:
    """The command that unpacks all tars of a folder whose names end as this one's."""
    unpack = next(command for _, known, command in _KINDS if known == kind)
    folder, match = shlex.quote(str(path.parent)), _NAME.search(path.name)
    if match is not None:
        return f"{unpack} {folder}/*{match[0]}"
    is_one = f'{unpack.split()[0]} -t < "$f" 2>/dev/null'  # plain tars may lie among them
    return f'for f in {folder}/*.tar; do {is_one} && mv "$f" "$f.{kind}" && {unpack} "$f.{kind}"; done'
