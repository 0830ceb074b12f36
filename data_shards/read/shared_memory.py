"""/dev/shm, through which the workers of a loader hand over their batches. In a container it is often 64 MB."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from common.errors import UserError, first_line

FOLDER = Path("/dev/shm")
_FULL = "No space left"
REMEDY = (
    "give the container more (docker run --shm-size=8g, or --ipc=host), lower data.workers, or set data.workers=0, "
    "which needs none"
)


def problem(need: int, workers: int) -> str | None:
    """Say why the batches under way do not fit, or None where they do, or this system has no such folder.

    need: bytes of all batches that the workers of this machine's processes keep ready; workers: of each process.
    """
    if not FOLDER.is_dir():
        return None
    free, size = shutil.disk_usage(FOLDER).free, shutil.disk_usage(FOLDER).total
    if need <= free:
        return None
    return (
        f"data.workers: {workers} keep up to {need / 1e6:,.0f} MB of batches ready in {FOLDER}, which has "
        f"{free / 1e6:,.0f} of {size / 1e6:,.0f} MB free; {REMEDY}"
    )


def move_to(tensors: Iterable[Tensor | None]) -> None:
    """Move tensors to shared memory, in place. Raises a UserError where it is full, else torch's RuntimeError.

    A worker does it itself: later, in a thread of the queue's, an error would be printed and the batch never come.
    """
    for tensor in tensors:
        if tensor is None:
            continue
        try:
            tensor.share_memory_()
        except RuntimeError as error:
            usage = shutil.disk_usage(FOLDER)
            if usage.free > tensor.nbytes and _FULL not in str(error):
                raise
            raise UserError(
                f"{FOLDER}: no room for a batch of {tensor.nbytes / 1e6:,.0f} MB ({usage.free / 1e6:,.0f} of "
                f"{usage.total / 1e6:,.0f} MB are free: {first_line(error)}); {REMEDY}"
            ) from None
