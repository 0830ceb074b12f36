"""The bytes of an index, which the hash of its set covers, depend on its arrays alone."""

from __future__ import annotations

import io
import sys
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from data_shards.format import npz

ARRAYS: dict[str, NDArray[Any]] = {
    "factors": np.arange(12, dtype=np.int64).reshape(4, 3),
    "offset": np.array([512, 1536, 512, 1536], np.int64),
    "shard": np.array([0, 0, 1, 1], np.int32),
}


def savez() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **ARRAYS)
    return stream.getvalue()


def test_they_are_those_that_numpy_writes_under_this_python() -> None:
    assert npz.pack(ARRAYS, older=sys.version_info < (3, 11, 4)) == savez()
    assert npz.pack(ARRAYS) != npz.pack(ARRAYS, older=True)


@pytest.mark.parametrize(
    ("older", "digest"),
    [
        (False, "436cd118b69f2d4b9990af36f21baae79c1944ad4039c31bce83260a577a8a8b"),
        (True, "9970e05b0d46655e6c7051d6f05ff3264a6d0a2272d9ea3f1afa11eed96ddb5f"),
    ],
)
def test_they_are_the_same_under_every_python(older: bool, digest: str) -> None:
    """The hashes are those of numpy.savez under Python 3.11.7 and 3.11.2."""
    assert sha256(npz.pack(ARRAYS, older)).hexdigest() == digest


@pytest.mark.parametrize("older", [False, True])
def test_numpy_reads_them(older: bool) -> None:
    with np.load(io.BytesIO(npz.pack(ARRAYS, older)), allow_pickle=False) as found:
        assert found.files == list(ARRAYS)
        for name, values in ARRAYS.items():
            np.testing.assert_array_equal(found[name], values, strict=True)
