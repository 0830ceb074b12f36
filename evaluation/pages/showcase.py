"""OUT/index.html: what exports make, one after the other, without their runs and data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evaluation.exports import check, pictures
from evaluation.inputs.results import Results
from evaluation.records import measurements
from trainer.config.feature_networks import SHIPPED_NETWORKS
from trainer.config.file_names import CHECK
from trainer.export.exported_model import Model, load
from trainer.pictures.image_grids import grid

from .page import NOTHING, bullets, heading, publish_page, saved, section, table, wide

SAMPLES, ACROSS, LATENTS, CODES = 32, 8, 6, 6
LARGE = 512  # px from which a sample is shown at its full size


@dataclass(frozen=True)
class Exported:
    """An export that was opened. path: its folder."""

    path: Path
    model: Model

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.path.name

    @property
    def origin(self) -> dict[str, Any]:
        """What export.json says of its training."""
        return self.model.metadata.origin


def write(folders: Sequence[Path], out: Path) -> Path:
    """Write the page of exports and its pictures to the folder `out`. Returns the page."""
    shown = [Exported(folder, load(folder)) for folder in folders]
    notes = list(dict.fromkeys(note for one in shown for note in one.origin.get("data_notes", [])))
    parts = [heading("What trained models make", "Without their data: codes come from the banks in their folders.")]
    parts += [part for one in reversed(shown) for part in _model(one, out)]
    parts += [_growth(group, out) for group in _on_one_encoder(shown)]
    parts += [_numbers(shown), section("Whose drawings", bullets(notes)) if notes else NOTHING]
    return publish_page(out / "index.html", "What trained models make", parts)


def trained(origin: dict[str, Any]) -> str:
    """Return what a training took, for a reader. origin: of an export."""
    hours = origin.get("hours")
    took = "" if hours is None else f" in {hours:.1f} hours on {origin.get('hardware', 'unknown hardware')}"
    processes = f", {origin['processes']} process(es)" if "processes" in origin else ""
    return f"{origin['images_seen'] / 1e6:.2f} million images{took}{processes}"


def _model(one: Exported, out: Path) -> list[Markup]:
    """The pictures of a model."""
    picture = saved(pictures.samples(one.model, SAMPLES, ACROSS), out / f"{one.name}-samples.png")
    metadata = one.model.metadata
    system = metadata.origin.get("system", "A model")
    note = f"{system} at {metadata.resolution} px, trained on {trained(one.origin)}. Random images."
    parts = [section(one.name, wide(picture), note)]
    if metadata.resolution >= LARGE:
        (large,) = pictures.whole(one.model, 1)
        parts.append(section(f"{one.name}, one image", wide(saved(grid(large[None], 1), out / f"{one.name}-one.png"))))
    if metadata.c_dim:
        rows = "The VAE's decodings above the generator's images" if metadata.network and one.model.vae else ""
        note = "One latent of the code at a time, from -3 to 3, those first that carry most." + (rows and f" {rows}.")
        walked = saved(pictures.traversals(one.model, LATENTS), out / f"{one.name}-traversals.png")
        parts.append(section(f"{one.name}: what each latent moves", wide(walked), note))
    return parts


def _on_one_encoder(shown: Sequence[Exported]) -> list[list[Exported]]:
    """Return the groups of two and more generators of one encoder, s and labels, the smallest images first."""
    groups: dict[tuple[Any, ...], list[Exported]] = {}
    for one in shown:
        metadata = one.model.metadata
        encoder = metadata.origin.get("inputs", {}).get("vae")
        if metadata.network and encoder is not None:
            groups.setdefault((encoder, metadata.s_dim, str(metadata.labels)), []).append(one)
    by_size = [sorted(group, key=lambda one: one.model.metadata.resolution) for group in groups.values()]
    return [group for group in by_size if len(group) > 1]


def _growth(group: Sequence[Exported], out: Path) -> Markup:
    drawn = pictures.same_codes([one.model for one in group], CODES)
    path = out / f"{group[0].name}-growth.png"
    note = "Each column has one code c and one nuisance vector s. Small images are enlarged, each pixel to a square."
    return section("The same codes, as the network grows", wide(saved(drawn, path)), note)


def _numbers(shown: Sequence[Exported]) -> Markup:
    """What was measured of the models: the newest records beside them, else the figures of their check."""
    rows = [[one.name, trained(one.origin), *_figures(one)] for one in shown]
    note = (
        "FID is that of the newest measurement beside the model, else that of its first 256 images. It compares only "
        "with FIDs of the same network and number of images."
    )
    columns = ["model", "trained on", "FID", "faithful sprites", "images", "network"]
    return section("Measured", table(columns, rows), note)


def _figures(one: Exported) -> list[str]:
    """Return FID, sprite fidelity, images behind both, and the first digits of the network's hash, "" without any."""
    kind = "gan" if one.model.generator is not None else "vae"
    shipped = SHIPPED_NETWORKS.values()
    records = [
        record
        for record in measurements.every(Results(one.path), "fid")
        if kind in record["kinds"]
        and record["protocol"] in shipped
        and record["codes"] == one.model.metadata.codes
        and "reference_data" not in record["kinds"]
    ]
    if records:
        measured = records[-1]
        count = measured["samples"]
    elif (one.path / CHECK).is_file():
        measured = check.read(one.path)
        count = measured["images"]
    else:
        return [""] * 4
    numbers = measured["kinds"][kind]
    fidelity, network = numbers.get("fidelity"), measured["extractor"][:12]
    return [f"{numbers['fid']:.3g}", "" if fidelity is None else f"{fidelity:.1%}", f"{count:,}", network]
