"""The networks whose features FID compares: the shipped ones by data set, and Inception's files of weights."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

from common.errors import UserError

Inception = Literal["clean", "legacy_pytorch"]
Shipped = Literal["factor-net", "face-net"]
SHIPPED_NETWORKS: dict[str, Shipped] = {"dsprites": "factor-net", "faces": "face-net"}  # by data set
CLEAN, LEGACY_PYTORCH = "inception-2015-12-05.pt", "pt_inception-2015-12-05-6726825d.pth"
FILES: dict[Inception, str] = {"clean": CLEAN, "legacy_pytorch": LEGACY_PYTORCH}


def default_protocol(data_set: str) -> Inception | Shipped:
    """Return the protocol of FID for a data set: that of the shipped network which knows it, else clean-fid's."""
    return SHIPPED_NETWORKS.get(data_set, "clean")


def sha256(path: Path) -> str:
    """Return a file's sha256 in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verified_sha256(protocol: Inception, path: Path, wanted: str | None) -> str:
    """Return the sha256 of a weights file. Raises UserError where there is no such file, or its hash is wrong.

    wanted: inception.clean_sha256, or None for any. That of legacy_pytorch begins with the digits in the file's name.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: the weights of Inception {protocol} are not there; put {FILES[protocol]} there (where there is "
            f"a network, `python -m evaluation weights {protocol} --out {path}` fetches it), or name another place "
            f"with --weights or inception.{protocol}"
        )
    digest = sha256(path)
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name) if protocol == "legacy_pytorch" else None
    if named and not digest.startswith(named[1]):
        raise UserError(f"{path}: sha256 is {digest}, its name says {named[1]}...: it is damaged; fetch it again")
    if protocol == "clean" and wanted not in (None, digest):
        raise UserError(
            f"{path}: sha256 is {digest}, inception.clean_sha256 is {wanted}; use that file, or correct the key"
        )
    return digest
