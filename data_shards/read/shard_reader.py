"""Read byte ranges of a level's tars: from the node's cache where a shard is there, else from a folder or a URL."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from common.errors import UserError
from common.paths import Location, Url
from data_shards.remote.requests import read_range

log = logging.getLogger(__name__)
_MAX_OPEN = 128  # tars
_IN_FLIGHT = 64  # requests of one batch: an answer of an object store takes 20 to 100 ms, whatever is asked for


class Place(NamedTuple):
    """Where the image of a sample stands. offset, length: bytes. crc32c: of these bytes; None in older sets."""

    sample: int
    shard: int
    offset: int
    length: int
    crc32c: int | None


class BadSample(Exception):
    """A sample that is not as the index says. place: of the sample; what: what is wrong with it."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(what)
        self.place, self.what = place, what


class ShardReader:
    """Reads the bytes of samples.

    folder: of the tars; names: of the tars, by number; cached: the folder in the node's cache where they appear one by
    one, or None.
    """

    def __init__(self, folder: Location, names: Sequence[str], cached: Path | None = None) -> None:
        self.folder, self.names, self.cached = folder, names, cached
        self._handles: dict[Path, int] = {}

    def read(self, places: Sequence[Place]) -> Iterator[bytes]:
        """Yield the bytes of samples in order; what has to come from a URL is asked for at once.

        Raises BadSample where they are too few or have another crc32c, and as `requests.read_range` does.
        """
        if self.cached is None and isinstance(self.folder, Path):
            yield from (self._from_folder(self.folder, place) for place in places)
            return
        kept = [self._from_cache(place) for place in places]
        if isinstance(self.folder, Path):
            for data, place in zip(kept, places, strict=True):
                yield self._from_folder(self.folder, place) if data is None else data
            return
        absent = [place for data, place in zip(kept, places, strict=True) if data is None]
        with ThreadPoolExecutor(max(1, min(_IN_FLIGHT, len(absent)))) as pool:
            asked = pool.map(self._from_url, absent)
            yield from (next(asked) if data is None else data for data in kept)

    def _from_folder(self, folder: Path, place: Place) -> bytes:
        data = os.pread(self._handle(folder / self.names[place.shard]), place.length, place.offset)
        if len(data) != place.length:
            raise BadSample(place, "is cut short")
        return data

    def _from_cache(self, place: Place) -> bytes | None:
        """Read a sample from the cache; None where its shard is absent. A damaged copy of it is removed."""
        if self.cached is None:
            return None
        path = self.cached / self.names[place.shard]
        try:
            data = os.pread(self._handle(path), place.length, place.offset)
        except FileNotFoundError:
            return None
        if _is_right(place, data):
            return data
        log.warning("warning: data.cache: %s is damaged and was removed; is this disk sound?", path)
        self.close()
        path.unlink(missing_ok=True)
        return None

    def _from_url(self, place: Place) -> bytes:
        url = self.folder / self.names[place.shard]
        assert isinstance(url, Url)
        try:
            data = read_range(url, place.offset, place.length)
        except FileNotFoundError:
            raise UserError(f"{url}: not found; copy the set there again, whole") from None
        if len(data) != place.length:
            raise BadSample(place, "is cut short")
        if not _is_right(place, data):
            raise BadSample(place, "has another crc32c than in the index: it is damaged, or the set was replaced")
        return data

    def _handle(self, path: Path) -> int:
        """Open a tar, or return the open one. pread has no shared position, so a fork may inherit the handle."""
        if path not in self._handles:
            if len(self._handles) >= _MAX_OPEN:
                self.close()
            self._handles[path] = os.open(path, os.O_RDONLY)
        return self._handles[path]

    def close(self) -> None:
        """Close the open tars; the next read opens them again."""
        while self._handles:
            os.close(self._handles.popitem()[1])

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_handles": {}}


def _is_right(place: Place, data: bytes) -> bool:
    """Return whether the bytes are those of the index, as far as it says."""
    if len(data) != place.length:
        return False
    return place.crc32c is None or google_crc32c.value(data) == place.crc32c
