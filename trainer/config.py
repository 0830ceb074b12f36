"""The settings of both stages. Units stand in the names and descriptions; kimg = 1,000 images seen by the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from data_shards.variants import Variant

from .settings import Settings, may_change

NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(strict=True, ge=1)]


class DataConfig(Settings):
    """Where the images come from."""

    path: Path = may_change(..., description="folder of shards that `python -m data_shards make` wrote")
    variant: Variant = Field("plain", description="dSprites only: how the stored sprite is drawn (Table A.1)")
    painting: Path | None = may_change(None, description="scream: an image file; null draws a procedural texture")
    workers: int = may_change(
        0, ge=0, strict=True, description="loader processes per rank; 0 reads in the training process"
    )


class GanDataConfig(DataConfig):
    """Stage 2 may also flip and dequantise; the dSprites family does neither."""

    flip: bool = Field(True, description="mirror each real with probability 1/2")
    dequantise: bool = Field(True, description="add U[0, 1/128) to reals in [-1, 1]")


class AdamConfig(Settings):
    """torch.optim.Adam."""

    name: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8

    @field_validator("betas")
    @classmethod
    def _in_range(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("both betas must lie in [0, 1), for example [0.9, 0.999]")
        return betas


class RMSpropConfig(Settings):
    """torch.optim.RMSprop."""

    name: Literal["rmsprop"] = "rmsprop"
    lr: PositiveFloat = 1e-4
    alpha: float = Field(0.99, ge=0, lt=1)
    eps: PositiveFloat = 1e-8


OptimizerConfig = Annotated[AdamConfig | RMSpropConfig, Field(discriminator="name")]


class ScheduleConfig(Settings):
    """How long, and how often. Intervals are rounded up to whole iterations."""

    total_kimg: PositiveFloat = may_change(..., description="length of the run")
    tick_kimg: PositiveFloat = may_change(10, description="one status line")
    sample_kimg: PositiveFloat = may_change(100, description="one sample grid")
    save_kimg: PositiveFloat = may_change(100, description="one checkpoint")
    keep_last: int = may_change(2, ge=2, strict=True, description="checkpoints kept")


class RunConfig(Settings):
    """What both stages share."""

    run: Path | None = may_change(None, description="run folder; null is runs/NAME, NAME from the config's path")
    seed: int = Field(0, ge=0, lt=2**32, strict=True, description="decides weights, order and every random number")
    batch_size: Count = Field(64, description="global: images per iteration over all processes")
    micro_batch: Count | None = may_change(None, description="images per process and pass; null is all at once")
    processes: Count | None = may_change(None, description="refuse any other number of processes")
    device: Literal["auto", "cpu", "cuda"] = may_change("auto")
    precision: Literal["float32", "float64"] = Field("float32", description="float64 is for exact comparisons")
    data: DataConfig
    schedule: ScheduleConfig


class BetaConfig(Settings):
    """The weight of the KL term: `value`, or a course over images seen that ends in it.

    The paper's beta is constant. A short budget needs a course, or the posterior collapses at the start.
    """

    value: NonNegative = 1.0
    course: tuple[tuple[NonNegative, NonNegative], ...] = Field(
        (), description="[kimg, beta] points, straight lines between them; after the last one beta is `value`"
    )

    @model_validator(mode="after")
    def _rises_in_time(self) -> BetaConfig:
        times = [time for time, _ in self.course]
        if times != sorted(set(times)):
            raise ValueError("course: the kimg of its points must rise, as in [[0, 0], [100, 8]]")
        if self.course and self.course[-1][1] != self.value:
            raise ValueError(f"course: ends in {self.course[-1][1]}, value is {self.value}; make them the same")
        return self


class VaeConfig(RunConfig):
    """Stage 1: `python -m trainer vae CONFIG`. VAE: beta 1; FactorVAE: gamma > 0 and a critic."""

    c_dim: Count = Field(10, description="size of the code")
    init: Literal["normal", "default"] = Field("normal", description="N(0, 0.02) of the paper, or PyTorch's")
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    beta: BetaConfig = BetaConfig()
    gamma: NonNegative = Field(0, description="FactorVAE's weight of the total correlation; 0 is no FactorVAE")
    optimizer: AdamConfig = AdamConfig()
    optimizer_critic: AdamConfig | None = Field(None, description="of FactorVAE's critic; null is no critic")
    linked: ClassVar = frozenset({"gamma", "optimizer_critic"})

    @property
    def system(self) -> str:
        """The paper's name for it."""
        if self.gamma:
            return "FactorVAE"
        return "VAE" if self.beta.value == 1 else "beta-VAE"

    def contradictions(self) -> list[str]:
        if self.gamma and self.optimizer_critic is None:
            return [
                f"gamma: {self.gamma:g} is FactorVAE's, whose critic has no optimizer; set optimizer_critic="
                "{name: adam, lr: 1e-4, betas: [0.5, 0.9]} or gamma=0"
            ]
        if self.optimizer_critic is not None and not self.gamma:
            return ["optimizer_critic: a critic without FactorVAE (gamma is 0); set gamma=10 or optimizer_critic=null"]
        return []


class GanConfig(RunConfig):
    """Stage 2: `python -m trainer gan CONFIG [vae=RUN]`.

    code_source, code_loss and d_sees_code make the paper's systems; see `system`.
    """

    data: GanDataConfig
    vae: Path | None = may_change(
        None, description="frozen q: a run folder of stage 1, a vae.safetensors, or your own encoder.pt2"
    )
    code_source: Literal["none", "prior", "posterior"] = Field(
        "posterior", description="c is N(0, I), or a sample of the frozen q(c|x) for the batch's reals"
    )
    code_loss: Literal["none", "info", "distill"] = Field(
        "distill", description="-lambda log q(c|G(s, c)): info learns q jointly with G, distill has the frozen q"
    )
    code_weight: NonNegative = Field(0, description="lambda of the code loss")
    d_sees_code: bool = Field(False, description="D judges pairs (x, c) instead of images")
    c_dim: int = Field(10, ge=0, strict=True, description="size of the code; that of vae must be the same")
    s_dim: int = Field(0, ge=0, strict=True, description="size of the nuisance vector")
    r1: NonNegative = Field(10, description="weight of mean ||grad||^2 (no 1/2: the literature's gamma is twice this)")
    optimizer_g: OptimizerConfig = RMSpropConfig(lr=1e-3)
    optimizer_d: OptimizerConfig = RMSpropConfig(lr=1e-4)
    optimizer_q: OptimizerConfig | None = Field(None, description="of the joint q of code_loss: info; null elsewhere")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="of the generator, per iteration")
    linked: ClassVar = frozenset(
        {"code_source", "code_loss", "code_weight", "d_sees_code", "c_dim", "s_dim", "vae", "optimizer_q"}
    )

    @property
    def system(self) -> str:
        """The paper's name for it, or one made of its settings."""
        name = SYSTEMS.get((self.code_source, self.code_loss, self.d_sees_code))
        return name or "cGAN with distillation"

    def contradictions(self) -> list[str]:
        return _contradictions(self)


SYSTEMS = {
    ("none", "none", False): "GAN",
    ("prior", "info", False): "InfoGAN",
    ("posterior", "none", True): "cGAN",
    ("posterior", "none", False): "ID-GAN without distillation",
    ("posterior", "distill", False): "ID-GAN",
}


def _contradictions(c: GanConfig) -> list[str]:
    """Settings that cannot be meant together, with a remedy each. No setting may do nothing."""
    has_code, learns, posterior = c.code_source != "none", c.code_loss != "none", c.code_source == "posterior"
    found = [
        (
            has_code and c.c_dim == 0,
            f"c_dim: 0, but code_source is {c.code_source}; set c_dim=10, or code_source=none for a GAN without a code",
        ),
        (not has_code and c.c_dim > 0, f"c_dim: {c.c_dim}, but code_source is none; set c_dim=0"),
        (c.c_dim == 0 and c.s_dim == 0, "s_dim: 0, and there is no code: G has no input; set s_dim=10"),
        (
            c.d_sees_code and not posterior,
            f"d_sees_code: D judges pairs (x, q(c|x)), but code_source is {c.code_source}; "
            "set code_source=posterior or d_sees_code=false",
        ),
        (
            posterior and c.vae is None,
            "vae: is missing, and code_source: posterior takes the code from its encoder; "
            "set vae=RUN of `python -m trainer vae`",
        ),
        (
            not posterior and c.vae is not None,
            f"vae: {c.vae} is given, but code_source: {c.code_source} takes no code from it; set vae=null",
        ),
        (
            c.code_loss == "distill" and not posterior,
            f"code_loss: distill teaches G the frozen q of a VAE, but code_source is {c.code_source}; "
            "set code_source=posterior and vae=RUN, or code_loss=" + ("info" if has_code else "none"),
        ),
        (
            c.code_loss == "info" and c.code_source != "prior",
            f"code_loss: info learns q on codes from the prior, but code_source is {c.code_source}; "
            "set code_source=prior" + (" or code_loss=distill" if posterior else " or code_loss=none"),
        ),
        (
            c.code_source == "prior" and not learns,
            "code_loss: none, but nothing else ties a code from the prior to the image; set code_loss=info",
        ),
        (
            learns and c.code_weight == 0,
            f"code_weight: 0, but code_loss is {c.code_loss}: "
            + ("the joint q would be learnt in vain" if c.code_loss == "info" else "nothing would be distilled")
            + "; set code_weight=1e-4, or code_loss=none",
        ),
        (not learns and c.code_weight > 0, f"code_weight: {c.code_weight:g}, but code_loss is none; set code_weight=0"),
        (
            c.code_loss == "info" and c.optimizer_q is None,
            "optimizer_q: is missing, and code_loss: info learns a joint q; set optimizer_q={name: rmsprop, lr: 1e-3}",
        ),
        (
            c.code_loss != "info" and c.optimizer_q is not None,
            f"optimizer_q: is for a joint q, but code_loss is {c.code_loss}; set optimizer_q=null",
        ),
    ]
    return [problem for wrong, problem in found if wrong]


def kind_of(values: Mapping[str, object]) -> type[VaeConfig] | type[GanConfig]:
    """Which stage a saved config (nested or flat) is of."""
    return VaeConfig if "likelihood" in values else GanConfig
