"""A run folder of either stage, or an export, opened for evaluation: the networks of one checkpoint, and the data."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError
from common.paths import Location
from common.provenance import versions
from data_shards.read.loader import CODE_RESOLUTION
from models import VAE, CodeEncoder, freeze
from trainer.checkpoints import published
from trainer.config.changes import changes
from trainer.config.file_names import METADATA, OWN_FILE, VAE_FILE
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, VaeConfig, kind_of
from trainer.config.yaml_file import read_yaml
from trainer.encoders import frozen
from trainer.encoders.frozen import weights_sha256 as weights
from trainer.encoders.own_encoder import Exported
from trainer.export import exported_model, run_networks
from trainer.export.open_model import refuse_choice
from trainer.labels.label_table import LabelTable
from trainer.stages.data import Data, Only, labels_of, open_data
from trainer.steps import networks

from .reals import Reals
from .results import Results

CPU = torch.device("cpu")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One run at one checkpoint. A part that its system does not have is None.

    step: folder of the checkpoint, with its manifest; generator: the averaged one, `average` names the average in a
    record; labels: that the generator is told, of the data; untrained: the generator before its first step; q: the
    encoder, for images in [-1, 1]; vae: decodes a code; encoder: which encoder q is, for a reader; inputs: identities
    of data and encoder, which must be those of the training; out: folder of new results, see `Results`.
    """

    path: Path
    step: Path
    manifest: dict[str, Any]
    config: VaeConfig | GanConfig
    data: Data
    generator: nn.Module | None
    untrained: nn.Module | None
    q: CodeEncoder | None
    vae: VAE | None
    encoder: str | None
    inputs: dict[str, str | int]
    average: dict[str, str] = field(default_factory=dict)
    labels: LabelTable | None = None
    device: torch.device = CPU
    out: Path | None = None

    @property
    def results(self) -> Results:
        """Where the results of this run lie."""
        return Results(self.path, self.out)

    @property
    def resolution(self) -> int:
        """Px of the run's images as encoders see them: the checkpoint's resolution, at least 64."""
        return max(CODE_RESOLUTION, int(self.manifest.get("resolution", CODE_RESOLUTION)))

    @cached_property
    def reals(self) -> Reals:
        """The real images that the run was trained on."""
        return Reals(self.config.data.path, self.data, {})

    def to(self, device: torch.device) -> Run:
        """Return the run with its networks on a device."""
        q = self.q
        if q is not None and isinstance(q.encoder, Exported) and device != self.device:
            q = CodeEncoder(q.encoder.moved_to(device))
        for network in (self.generator, self.untrained, q, self.vae):
            if network is not None:
                network.to(device)
        return replace(self, device=device, q=q)

    @property
    def images_seen(self) -> int:
        """Images that the training had seen at this checkpoint."""
        return int(self.manifest["images_seen"])

    @property
    def s_dim(self) -> int:
        """Dimensions of the nuisance vector s; 0 in stage 1."""
        return self.config.s_dim if isinstance(self.config, GanConfig) else 0

    @property
    def c_dim(self) -> int:
        """Dimensions of the code c."""
        return self.config.c_dim

    @property
    def encoder_sha256(self) -> str | None:
        """Identity of q: the sha256 of its weights, or of the file of an encoder of your own; None without q."""
        if self.q is None:
            return None
        return str(self.inputs["vae"]) if isinstance(self.q.encoder, Exported) else weights(self.q.encoder)

    @cached_property
    def weights_sha256(self) -> str:
        """Identity of all networks that are evaluated: of their tensors, or of the file of an encoder of your own."""
        parts = [weights(n) for n in (self.generator, self.untrained, self.vae) if n is not None]
        return hashlib.sha256(" ".join([*parts, self.encoder_sha256 or ""]).encode()).hexdigest()

    def of_class(self, text: str, option: str) -> Run:
        """Return the run as one of the images of some classes alone: reals, and codes and labels that come from them.

        text: such as shape=heart, that was typed after the option. Raises a UserError where there are none.
        """
        if self.labels is None:
            raise UserError(f"{option}: {text}: {self.path} was trained without labels; leave {option} out")
        chosen = self.labels.labels.chosen(text, option)
        samples = self.labels.samples_of(chosen, f"{option}: {text}")
        return replace(self, data=replace(self.data, only=Only(self.labels.labels.text(chosen), samples)))

    def require_encoder(self) -> CodeEncoder:
        """Return q. Raises UserError where the system has no encoder."""
        if self.q is None:
            imported = isinstance(self.config, GanConfig) and self.config.code_source == "posterior"
            owner = "it was imported without its" if imported else f"a {self.config.system} has no"
            remedy = "import it with --vae FILE" if imported else "name a run of another system"
            raise UserError(
                f"{self.path}: {owner} encoder; {remedy}, or measure this one with fid, latents and figures"
            )
        return self.q

    def describe(self) -> dict[str, Any]:
        """Return what every record says of the run."""
        painting = self.data.painting
        return {
            "run": str(self.path),
            "stage": "gan" if self.generator is not None else "vae",
            "system": self.config.system,
            "step": self.step.name,
            "weights_sha256": self.weights_sha256,
            "images_seen": self.images_seen,
            "iteration": int(self.manifest["iteration"]),
            **{name: self.manifest[name] for name in ("resolution", "alpha") if name in self.manifest},
            "data": self.data.main.manifest.hash,
            "variant": self.config.data.variant,
            **({} if painting is None else {"painting": painting.source, "painting_sha256": painting.sha256}),
            **self.average,
            "world_size": 1,
            "versions": versions(),
        }


class GrownGenerator(nn.Module):
    """A generator at the resolution and alpha of its checkpoint: z [B, dim] -> images [B, C, R, R] in [-1, 1].

    Images below 64 px are enlarged to it (bilinear), as encoders see them.
    """

    def __init__(self, network: nn.Module, manifest: dict[str, Any]) -> None:
        super().__init__()
        self.network, self.resolution = freeze(network), int(manifest["resolution"])
        self.alpha = None if "alpha" not in manifest else torch.tensor(float(manifest["alpha"]))

    def forward(self, z: Tensor) -> Tensor:
        """Make images of latents [B, dim]."""
        alpha = None if self.alpha is None else self.alpha.to(z.device)
        return at_least_64_px(self.network(z, self.resolution, alpha))


def at_least_64_px(images: Tensor) -> Tensor:
    """Enlarge images [B, C, R, R] below 64 px to it (bilinear)."""
    if images.shape[-1] >= CODE_RESOLUTION:
        return images
    return F.interpolate(images, (CODE_RESOLUTION, CODE_RESOLUTION), mode="bilinear")


def open_run(path: Path, step: str | None = None, average: str | None = None, data_path: Location | None = None) -> Run:
    """Open an export, or a run folder at its newest checkpoint or at a step by its name or by images seen.

    average: a name in the config, or a file of averaged weights; None for the config's first. data_path: folder or URL
    of its shards, None for that of its config; an export may be measured on another set that was drawn alike. Raises
    UserError where there is no run, no usable checkpoint, no such step or average, where an export is given either, or
    where data or encoder are not those of the training.
    """
    config, is_export = _read_config(path), (path / METADATA).is_file()
    if is_export:
        refuse_choice(path, step, average)
    if data_path is not None:
        moved = config.data.model_copy(update={"path": data_path})
        config = config.model_copy(update={"data": moved})
    if is_export and isinstance(config.data.path, Path) and not config.data.path.is_dir():
        raise UserError(
            f"{path}: {config.data.path}: the set that it was trained on is not here (data.path in "
            f"{path / 'config.yaml'}); name its folder with --data, or make it again"
        )
    file = path / "config.yaml" if data_path is None else None
    data = open_data(config.data, config.seed, file=file)
    if is_export:
        run = _export(path, config, data)
    elif isinstance(config, VaeConfig):
        if average is not None:
            raise UserError(f"--ema: {average}: {path} is a run of stage 1, which averages nothing; leave --ema out")
        run = _vae_run(path, config, data, step)
    else:
        run = _gan_run(path, config, data, step, average)
    _check_inputs(run, is_export and data_path is not None)
    return run


def open_to_measure(
    path: Path, step: str | None, average: str | None, data_path: Location | None, out: Path | None
) -> Run:
    """Open a run whose results can be written. out: folder of new results, see `Results`; others as `open_run`."""
    run = replace(open_run(path, step, average, data_path), out=out)
    run.results.refuse_unwritable()
    return run


def _read_config(path: Path) -> VaeConfig | GanConfig:
    file = path / "config.yaml"
    if file.is_file():
        return load_config(kind_of(read_yaml(file)), file)
    if (path / METADATA).is_file():
        raise UserError(
            f"{path}: an export of version 0.1 or 0.2.0, which has no config.yaml; export the run again, or measure it "
            "with `python -m evaluation fid`"
        )
    run = next((folder for folder in path.parents[:2] if (folder / "config.yaml").is_file()), None)
    if run is not None:
        step = f", with --step {path.name}" if path.parent == published.folder(run) else ""
        raise UserError(f"{path}: is a part of a run; name the whole, {run}{step}")
    what = "no run here (no config.yaml)" if path.exists() else "no such folder"
    raise UserError(f"{path}: {what}; name a folder that `python -m trainer` made")


def _export(path: Path, config: VaeConfig | GanConfig, data: Data) -> Run:
    model = exported_model.load(path)
    metadata, origin = model.metadata, model.metadata.origin
    names = "images_seen", "iteration", "versions", "hours", "drawn_by"
    manifest: dict[str, Any] = {name: origin[name] for name in names if name in origin}
    manifest |= {"resolution": metadata.resolution, "facts": origin["inputs"], "world_size": 1}
    manifest |= {} if metadata.alpha is None else {"alpha": metadata.alpha}
    generator = untrained = None
    if isinstance(config, GanConfig) and model.generator is not None:
        generator = GrownGenerator(model.generator, manifest)
        untrained = GrownGenerator(networks.generator(config, data.channels, metadata.y_dim), manifest)
    inputs, q, encoder = data.identity, model.encoder, None if model.encoder is None else "the encoder of this export"
    if metadata.encoder in ("vae", "own"):
        frozen_encoder = frozen.load(path)
        q = CodeEncoder(frozen_encoder.encoder)
        inputs = inputs if generator is None else inputs | {"vae": frozen_encoder.sha256}
    inputs = inputs | ({} if metadata.labels is None else {"y_dim": metadata.y_dim})
    average: dict[str, str] = {name: origin[name] for name in ("ema", "ema_sha256") if name in origin}
    step = path / origin["step"]
    labels = labels_of(config, data)
    _refuse_other_classes(path, labels, model)
    return Run(path, step, manifest, config, data, generator, untrained, q, model.vae, encoder, inputs, average, labels)


def _vae_run(path: Path, config: VaeConfig, data: Data, at: str | None) -> Run:
    step, vae = run_networks.load_network(path, at, "vae", networks.vae(config, data.channels))
    encoder = f"the {config.system} of this run"
    manifest = published.read_manifest(step)
    return Run(path, step, manifest, config, data, None, None, CodeEncoder(vae.encoder), vae, encoder, data.identity)


def _gan_run(path: Path, config: GanConfig, data: Data, at: str | None, requested: str | None) -> Run:
    labels = labels_of(config, data)
    sizes = data.channels, run_networks.trained_y_dim(path)  # not the set's: whether that is another is asked later
    step, manifest, averaged, average = run_networks.averaged_generator(path, at, config, sizes, requested)
    generator = GrownGenerator(averaged, manifest)
    untrained = GrownGenerator(networks.generator(config, *sizes), manifest)
    inputs, q, vae, encoder = data.identity | ({"y_dim": labels.labels.dim} if labels else {}), None, None, None
    if config.code_source == "posterior":
        file = _frozen_file(path)
        loaded = frozen.load(file)
        inputs = inputs | {"vae": loaded.sha256}
        q, vae = CodeEncoder(loaded.encoder), loaded.vae
        encoder = f"the frozen {'VAE' if vae else 'encoder of your own'} of this run ({file.name})"
    elif config.code_loss == "info":
        _, q = run_networks.load_network(path, step.name, "q", networks.joint_q(config, data.channels))
        encoder = "InfoGAN's own q, learnt with its generator"
    return Run(path, step, manifest, config, data, generator, untrained, q, vae, encoder, inputs, average, labels)


def _refuse_other_classes(path: Path, table: LabelTable | None, model: exported_model.Model) -> None:
    """Raise a UserError where the set that an export is measured on has other classes than that of its training."""
    if table is not None and model.labels is not None and table.labels != model.labels:
        there, here = (labels.described() for labels in (model.labels, table.labels))
        raise UserError(
            f"{path}: was trained on a set with the labels {there}; the one that it is to be measured on has {here}; "
            "name the set of its training, or another with those classes, with --data"
        )


def _frozen_file(path: Path) -> Path:
    """Return the file of the run's frozen encoder."""
    file = frozen.saved_path(path)
    if file is None:
        raise UserError(
            f"{path}: the frozen encoder of this run ({VAE_FILE} or {OWN_FILE}) is gone; run its "
            "training command again, which puts it back"
        )
    return file


def _check_inputs(run: Run, may_be_another_set: bool) -> None:
    """Raise a UserError where data, painting or encoder are not those of the training.

    may_be_another_set: warn only where the images are others, drawn alike.
    """
    started_from = {"init_from"}  # networks that a run began with: no evaluation reads them
    recorded = {key: value for key, value in run.manifest["facts"].items() if key not in started_from}
    inputs = dict(run.inputs)
    if "data" not in recorded:
        log.warning("warning: %s was imported, and which images it was trained on is not recorded", run.path)
        inputs = {name: value for name, value in inputs.items() if name in recorded}
    differs = changes(recorded, inputs)
    drawn_by = run.manifest.get("drawn_by")
    drawn_alike = drawn_by is not None and drawn_by == run.data.main.manifest.drawn_by
    if may_be_another_set and drawn_alike and [change.key for change in differs] == ["data"]:
        log.warning(
            "warning: --data: %s is another set than the one that %s was trained on, drawn alike",
            run.config.data.path,
            run.path,
        )
    elif differs:
        listed = "; ".join(map(str, differs))
        raise UserError(
            f"{run.path}: {listed}: not what it was trained on; correct data.path or data.painting in "
            f"{run.path / 'config.yaml'}, or restore its {VAE_FILE} or {OWN_FILE}"
        )
