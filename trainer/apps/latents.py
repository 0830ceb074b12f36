"""What the image of a seed is made of: its code c and its nuisance vector s, truncated towards their means."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError, first_line
from trainer.export.exported_model import Model

SUFFIXES = (".npy", ".csv")


@dataclass(frozen=True)
class Latents:
    """Code and nuisance vector of each seed.

    source: "none", "prior", "posterior" or the path of a file; sha256: identity of the bank or of the file, else None;
    rows: the codes of a file [N, c_dim], else None; mean: of the source's codes [c_dim]; psi: in (0, 1]; classes: of
    all images, see `Model.nuisance`.
    """

    model: Model
    source: str
    sha256: str | None
    rows: Tensor | None
    mean: Tensor
    psi: float
    classes: str | None = None

    def of(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return (s [1, nuisance_dim], c [1, c_dim]) of a seed: s = psi s, c = mean + psi (c - mean).

        The label vector y, which stands behind s, is not truncated.

        One at a time: vectorised functions round otherwise in another place of a longer vector.
        """
        at = torch.tensor([seed])
        s = self.model.nuisance(at, classes=self.classes)
        prior = self.source == "prior"
        c = self.model.codes(at, prior=prior, classes=self.classes) if self.rows is None else self.rows[at]
        if self.psi == 1:
            return s, c
        s[:, : self.model.metadata.s_dim] *= self.psi
        return s, self.mean + self.psi * (c - self.mean)


def latents_of(
    model: Model,
    path: Path,
    requested: str | None,
    psi: float,
    seeds: tuple[int, ...],
    classes: str | None = None,
) -> Latents:
    """Return where the latents of a model's seeds come from.

    path: of the model, for messages; requested: "posterior", "prior", the path of a file, or None: as in training;
    classes: as a user types them. Raises a UserError where the model has no such codes or classes, or the file none for
    these seeds.
    """
    model.chosen(classes, "--class")
    return replace(_source_of(model, path, requested, psi, seeds), classes=classes)


def _source_of(model: Model, path: Path, requested: str | None, psi: float, seeds: tuple[int, ...]) -> Latents:
    c_dim, bank = model.metadata.c_dim, model.bank
    if psi < 1 and c_dim + model.metadata.s_dim == 0:
        raise UserError(f"--psi: {psi:g}: {path} has neither s nor c to truncate; leave --psi out")
    if c_dim == 0:
        if requested is not None:
            raise UserError(f"--codes: {requested}: {path} is a GAN without a code; leave --codes out")
        return Latents(model, "none", None, None, torch.zeros(0), psi)
    if requested == "posterior" and bank is None:
        raise UserError(f"--codes: posterior: {path} has no codes of images; take prior, or leave --codes out")
    if requested in (None, "posterior") and bank is not None:
        digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in bank)).hexdigest()
        return Latents(model, "posterior", digest, None, bank[0].double().mean(0).float(), psi)
    if requested in (None, "prior"):
        return Latents(model, "prior", None, None, torch.zeros(c_dim), psi)
    assert requested is not None
    rows = read_codes(Path(requested), c_dim, seeds)
    digest = hashlib.sha256(Path(requested).read_bytes()).hexdigest()
    return Latents(model, requested, digest, rows, rows.double().mean(0).float(), psi)


def read_codes(path: Path, c_dim: int, seeds: tuple[int, ...]) -> Tensor:
    """Read the codes of a .npy or .csv file: float32 [N, c_dim], row k for seed k.

    Raises a UserError where it is no such file, has another shape or a value that is not finite, or no row for a seed.
    """
    codes = _array(path)
    if codes.ndim != 2 or codes.shape[1] != c_dim or not len(codes):
        shape = " x ".join(map(str, codes.shape))
        raise UserError(f"--codes: {path}: has the shape {shape}; the model takes codes [N, {c_dim}], a row for a seed")
    bad = np.argwhere(~np.isfinite(codes))
    if len(bad):
        row, column = bad[0]
        raise UserError(
            f"--codes: {path}: holds {codes[row, column]} in row {row}, column {column}, counted from 0 "
            f"({len(bad):,} such values in all); correct them"
        )
    beyond = [seed for seed in seeds if seed >= len(codes)]
    if beyond:
        raise UserError(
            f"--codes: {path}: has {len(codes)} rows, and none for seed {beyond[0]}; ask for seeds up to "
            f"{len(codes) - 1}, or give more rows"
        )
    return torch.from_numpy(codes)


def _array(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Read the numbers of a file as float32."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--codes: {path}: is none of posterior, prior, a .npy file and a .csv file; name one of these")
    try:
        with warnings.catch_warnings(action="ignore"):  # of an empty file, which is refused
            is_text = path.suffix == ".csv"
            numbers = np.loadtxt(path, delimiter=",", ndmin=2) if is_text else np.load(path, allow_pickle=False)
    except OSError as error:
        raise UserError(f"--codes: {path}: {error.strerror or first_line(error)}; name a file of codes") from None
    except (ValueError, EOFError, BadZipFile) as error:
        raise UserError(
            f"--codes: {path}: cannot be read ({first_line(error)}); a .csv holds numbers alone, separated by commas, "
            "a code on each line; a .npy an array of numbers"
        ) from None
    if not isinstance(numbers, np.ndarray) or numbers.dtype.kind not in "fiu":
        raise UserError(f"--codes: {path}: holds no array of real numbers; write one with numpy.save")
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        return numbers.astype(np.float32)
