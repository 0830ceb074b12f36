"""What stands beside the images of a folder or archive and is not taken: counted by reason and extension."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from .litter import Litter

Reason = Literal[Litter, "no image"]
REST: Reason = "no image"
_MANY = 12  # extensions that a note names
_JPEG = (".jfif", ".jif", ".jpe", ".jpg_large", ".jpg!d")  # what browsers save, which is JPEG under another name


@dataclass(frozen=True)
class LeftOut:
    """Files that are not taken, each with the reason."""

    files: tuple[tuple[str, Reason], ...] = ()

    @classmethod
    def of(cls, files: Iterable[tuple[str, Reason]]) -> LeftOut:
        """Return files with their reasons, sorted."""
        return cls(tuple(sorted(files)))

    def without(self, names: Collection[str]) -> LeftOut:
        """Return the same without the files of these paths or names, which were read for something else."""
        rest = (file for file in self.files if file[0] not in names and PurePosixPath(file[0]).name not in names)
        return LeftOut(tuple(rest))

    def notes(self, what: str = "with no extension of an image") -> tuple[str, ...]:
        """Return a sentence for each reason, with the files by extension. what: describes those that are no litter."""
        return tuple(filter(None, (self._rest(what), self._litter("hidden"), self._litter("of the system"))))

    def _extensions(self, reason: Reason) -> Counter[str]:
        return Counter(_extension(path) for path, why in self.files if why == reason)

    def _rest(self, what: str) -> str | None:
        counts = self._extensions("no image")
        if not counts:
            return None
        jpeg = sorted(set(counts) & set(_JPEG))
        remedy = f"; {', '.join(jpeg)} is JPEG: rename the files to .jpg to have them taken" if jpeg else ""
        tars = "; a .tar is read when it is named, or a folder of such alone" if ".tar" in counts else ""
        return f"left out, {_files(counts.total())} {what}: {_table(counts)}{remedy}{tars}"

    def _litter(self, reason: Litter) -> str | None:
        counts = self._extensions(reason)
        return f"left out, {_files(counts.total())} {_LITTER[reason]}: {_table(counts)}" if counts else None


_LITTER: dict[Litter, str] = {
    "hidden": "hidden, or in hidden folders",
    "of the system": "that a system or a file server left there (@eaDir, Thumbs.db, ...)",
}


def _files(count: int) -> str:
    return f"{count:,} file{'s' if count != 1 else ''}"


def _extension(path: str) -> str:
    """The extension in lower case, or the name of a hidden file that is nothing else."""
    name = PurePosixPath(path).name
    return printable(PurePosixPath(name).suffix.lower() or (name if name.startswith(".") else "without one"))


def printable(name: str) -> str:
    """Return a file name whose bytes may be no UTF-8 as text: "caf\\xe9"."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _table(counts: Counter[str]) -> str:
    """Return the extensions with their counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} {count:,}" for name, count in ordered[:_MANY])
    rest = sum(count for _, count in ordered[_MANY:])
    return shown + (f", others {rest:,}" if rest else "")
