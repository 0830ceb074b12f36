"""What the server has of one export: the renderer, sliders, names and pictures, and what the page is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from trainer.config.file_names import METADATA
from trainer.encoders.frozen import weights_sha256
from trainer.export import exported_model

from . import code_file, fit, latent_names, renderer, uploads
from .code_file import SavedCode
from .latent_names import LatentNames
from .renderer import Renderer
from .sliders import sliders_of
from .uploads import Picture, Pictures


class Session:
    """An opened export. Raises a UserError where there is none, or its file of names holds something else."""

    def __init__(self, export: Path, names: Path | None, device: torch.device) -> None:
        if not (export / METADATA).is_file():
            raise UserError(f"{export}: {_what_is_there(export)}")
        self.model = exported_model.load(export)
        self.metadata, self.name = self.model.metadata, export.resolve().name
        self.sliders = sliders_of(self.model)  # on the CPU: the renderer moves networks to the device
        self.renderer = Renderer(self.model, export, device)
        latents = [slider.latent for slider in self.sliders.sliders]
        self.names = LatentNames(names or export / latent_names.FILE, latents)
        self.pictures = Pictures()
        network = self.model.generator or self.model.vae
        assert network is not None
        self.weights = weights_sha256(network)

    def description(self) -> dict[str, Any]:
        """Return what the page is made of, as JSON data."""
        model, metadata, names = self.model, self.metadata, self.names.names
        sliders = [
            {**each._asdict(), "name": names.get(each.latent, ""), "collapsed": each.is_collapsed}
            for each in self.sliders.sliders
        ]
        return {
            "name": self.name,
            "subtitle": self._subtitle(),
            "notes": metadata.origin.get("data_notes", []),
            "resolution": metadata.resolution,
            "s_dim": metadata.s_dim,
            "labels": metadata.labels or [],
            "c_dim": metadata.c_dim,
            "c_mean": self.renderer.latents.mean.tolist(),
            "codes": self.renderer.latents.source,
            "sliders": sliders,
            "limit": self.sliders.limit,
            "order": self.sliders.order,
            "generates": model.generator is not None,
            "encodes": model.encoder is not None,
            "decodes": model.vae is not None,
            "is_large": metadata.resolution >= renderer.LARGE,
            "preview": renderer.preview_resolution(model),
            "fit_steps": fit.STEPS,
            "most_bytes": uploads.MOST_BYTES,
            "longest_name": latent_names.LONGEST,
        }

    def read_picture(self, data: bytes) -> Picture:
        """Read an image file as the model's images are; see `uploads.read_picture`."""
        data_set = self.metadata.origin.get("data_set")
        return uploads.read_picture(data, data_set, self.metadata.resolution, self.metadata.channels)

    def saved(self, asked: dict[str, Any]) -> SavedCode:
        """Return what is to be saved of the s, c and seeds that a page sent. Raises a UserError where they are none."""
        s, c = (code_file.vector(asked.get(name), size, name)[0].tolist() for name, size in self.sizes())
        s_seed, c_seed = (code_file.seed_or_none(asked.get(name), name) for name in ("s_seed", "c_seed"))
        return SavedCode(self.name, self.weights, s, c, s_seed, c_seed, dict(self.names.names))

    def loaded(self, data: bytes) -> tuple[SavedCode, str]:
        """Read a saved code, and take its names for latents that have none here.

        Returns the code, and for a reader what is to be known of it, or "". Raises a UserError where it is no code of a
        model like this one.
        """
        code = code_file.read_code(data, self.metadata)
        if code.weights_sha256 != self.weights:
            return code, f"This code was saved from another model, {code.model}: its image is another one here."
        missing = {latent: name for latent, name in code.names.items() if latent not in self.names.names}
        try:
            if missing:
                self.names.adopt(missing)
        except UserError as error:
            return code, str(error)
        return code, ""

    def sizes(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Return the sizes of s, with the label vector y behind it, and c."""
        return ("s", self.metadata.nuisance_dim), ("c", self.metadata.c_dim)

    def _subtitle(self) -> str:
        origin, parts = self.metadata.origin, []
        parts.append(origin.get("system", "VAE" if self.model.generator is None else "GAN"))
        parts += [str(origin["data_set"])] if "data_set" in origin else []
        parts.append(f"{self.metadata.resolution} px")
        parts += [f"{origin['images_seen']:,} images seen"] if "images_seen" in origin else []
        return " · ".join(parts)


def _what_is_there(export: Path) -> str:
    if (export / "config.yaml").is_file():
        return f"is a run; write its model with `python -m trainer export {export} OUT`, and explore OUT"
    return "is no export (no export.json); name a folder that `python -m trainer export` wrote, or pretrained/NAME"
