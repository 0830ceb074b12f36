"""Write npz files whose bytes depend on the arrays alone: the hash of a set covers the files of its indices."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_VERSION, _SIZES = 4, 18  # where a local header holds the version that reads it, and the member's two sizes


class _Member(zipfile.ZipInfo):
    """An array in the archive, with the same header under every version of Python.

    numpy wants headers for large files (zip64), which hold the sizes in a field of their own. Since Python 3.11.4 they
    stand there alone, and the version in the header is 4.5; before, the header had them too and said 2.0
    (https://github.com/python/cpython/issues/103861). older: write the header of before.
    """

    def __init__(self, name: str, older: bool) -> None:
        super().__init__(name)
        self.older = older

    def FileHeader(self, zip64: bool | None = None) -> bytes:
        """Return the header that stands before the member's bytes; zipfile writes it twice, the second time to stay."""
        header = bytearray(super().FileHeader(zip64=True))
        version, sizes = (20, (self.compress_size, self.file_size)) if self.older else (45, (2**32 - 1, 2**32 - 1))
        self.extract_version = self.create_version = version
        struct.pack_into("<B", header, _VERSION, version)
        struct.pack_into("<2L", header, _SIZES, *sizes)
        return bytes(header)


def pack(arrays: Mapping[str, NDArray[Any]], older: bool = False) -> bytes:
    """Return the bytes of an npz file, as numpy.savez writes it. older: as it did before Python 3.11.4."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(_Member(f"{name}.npy", older), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return stream.getvalue()
