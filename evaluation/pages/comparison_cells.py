"""The cells of a comparison: a row a run, and below them the mean over the seeds of a setting."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation import measure
from evaluation.inputs.images import own_kind
from evaluation.inputs.run import Run

from .comparison import Measured

Cell = str | float
COLUMNS = {
    "system": "the paper's name for the settings",
    "iterations": "of the run's own stage",
    "batch": "global batch size",
    "FID": "of the generator's images, in stage 1 of the VAE's decodings",
    "untrained": "FID of the same generator before its first step",
    "ratio": "untrained / FID",
    "fidelity": "share of images that are faithful sprites (IoU >= 0.8)",
    "MIG": "of the encoder",
    "FVM": "of the encoder, train accuracy",
    "R2 x": "how well x of a source is found in the image made from its code",
    "R2 y": "likewise y",
    "R2 scale": "likewise scale",
    "parts": "likewise, accuracy of the sprite's shape, or of a face's parts (mean)",
    "encoder": "what MIG, FVM and the codes of the sources are of",
    "run": "folder",
}
FORMATS = {"FID": ".3g", "untrained": ".3g", "ratio": ".1f", "fidelity": ".1%", "parts": ".1%"}
_OF_A_RUN = ("seed", "run", "vae", "processes", "profile")  # what seeds of one setting may differ in
_OF_ITS_DATA = ("path", "workers", "cache")


def cells_of(m: Measured, of_reals: bool = False) -> dict[str, Cell]:
    """Return the cells that a run has, by column. of_reals: of the measures of the data's own images."""
    kind = "reals" if of_reals else own_kind(m.run)
    fid, untrained = m.fid["kinds"][kind], m.fid["kinds"].get("untrained") if kind == "gan" else None
    cells: dict[str, Cell] = {"system": "reals" if of_reals else m.run.config.system, "FID": fid["fid"]}
    if fid["fidelity"] is not None:
        cells["fidelity"] = fid["fidelity"]
    if untrained:
        cells |= {"untrained": untrained["fid"], "ratio": untrained["fid"] / fid["fid"]}
    if m.alignment:
        cells |= _of_readings(m.alignment["kinds"][kind])
    if m.disentanglement:
        cells["MIG"] = m.disentanglement["mig"]["score"]
        cells["FVM"] = m.disentanglement["fvm"]["train_accuracy"]
    if not of_reals:
        cells |= {"iterations": f"{m.run.manifest['iteration']:,}", "batch": str(m.run.config.batch_size)}
        cells |= {"run": str(m.run.path), "encoder": m.run.encoder or "none"}
    return cells


def _of_readings(seen: dict[str, Any]) -> dict[str, Cell]:
    r2, accuracy = measure.r2_of(seen), measure.accuracy_of(seen)
    parts = [share for name, share in accuracy.items() if name not in r2 and name != "orientation"]
    return {**{f"R2 {name}": r2[name] for name in ("x", "y", "scale")}, "parts": float(np.mean(parts))}


def as_row(cells: Mapping[str, Cell]) -> list[str]:
    """Format cells under COLUMNS; what a run has not is empty."""
    return [_shown(name, cells.get(name, "")) for name in COLUMNS]


def _shown(column: str, value: Cell) -> str:
    return value if isinstance(value, str) else format(value, FORMATS.get(column, ".3f"))


def means(measured: Sequence[Measured]) -> list[dict[str, Cell]]:
    """Return for every setting with several seeds the mean of each cell and its standard deviation over the seeds."""
    settings: dict[str, list[Measured]] = {}
    for one in measured:
        settings.setdefault(_setting(one.run), []).append(one)
    return [_mean([cells_of(one) for one in group]) for group in settings.values() if _are_seeds(group)]


def _are_seeds(group: Sequence[Measured]) -> bool:
    """True if these are several runs, each of a seed of its own: not a run and its export, nor one trained twice."""
    return len(group) > 1 and len({one.run.config.seed for one in group}) == len(group)


def _setting(run: Run) -> str:
    """Return all of a run's config but its seed and its place, with its iterations and the encoder it was given."""
    config = run.config.model_dump(mode="json", exclude={*_OF_A_RUN})
    frozen = run.encoder_sha256 if run.generator is not None and run.config.system != "InfoGAN" else None
    config["data"] = {name: value for name, value in config["data"].items() if name not in _OF_ITS_DATA}
    return json.dumps([config, run.manifest["iteration"], frozen], sort_keys=True)


def _mean(rows: Sequence[Mapping[str, Cell]]) -> dict[str, Cell]:
    found: dict[str, Cell] = {}
    for name in rows[0]:
        values = [row[name] for row in rows if name in row]
        numbers = [value for value in values if not isinstance(value, str)]
        if len(numbers) == len(rows):
            mean, deviation = float(np.mean(numbers)), float(np.std(numbers, ddof=1))
            found[name] = f"{_shown(name, mean)} ± {_shown(name, deviation)}"
        elif len(set(values)) == 1 and name != "run":
            found[name] = values[0]
    return found | {"system": f"{rows[0]['system']}, mean of {len(rows)} seeds"}
