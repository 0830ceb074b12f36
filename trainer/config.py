"""The settings of both stages. Units stand in the names and descriptions; kimg = 1,000 images seen by the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
    """Stage 1: `python -m trainer vae CONFIG`."""

    c_dim: Count = Field(10, description="size of the code")
    init: Literal["normal", "default"] = Field("normal", description="N(0, 0.02) of the paper, or PyTorch's")
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    beta: BetaConfig = BetaConfig()
    optimizer: AdamConfig = AdamConfig()


class GanConfig(RunConfig):
    """Stage 2: `python -m trainer gan CONFIG vae=RUN`."""

    data: GanDataConfig
    vae: Path = may_change(..., description="run folder of stage 1 whose encoder gives the code, or a vae.safetensors")
    c_dim: Count = Field(10, description="size of the code; the VAE's must be the same")
    s_dim: int = Field(0, ge=0, strict=True, description="size of the nuisance vector")
    code_weight: NonNegative = Field(1e-4, description="lambda of the distillation term")
    r1: NonNegative = Field(10, description="weight of mean ||grad||^2 (no 1/2: the literature's gamma is twice this)")
    optimizer_g: OptimizerConfig = RMSpropConfig(lr=1e-3)
    optimizer_d: OptimizerConfig = RMSpropConfig(lr=1e-4)
    ema_decay: float = Field(0.999, ge=0, lt=1, description="of the generator, per iteration")
