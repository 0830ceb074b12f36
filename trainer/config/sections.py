"""Groups of settings that configs consist of. Units are in the names and descriptions; kimg = 1,000 images seen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PositiveFloat,
    Tag,
    field_validator,
    model_validator,
)

from common import paths
from data_shards.read.variant_names import Variant

from .feature_networks import CLEAN, LEGACY_PYTORCH
from .settings import LocationSetting, PathSetting, Settings, may_change

NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(strict=True, ge=1)]


def _count_or_auto(value: object) -> object:
    """Refuse what is neither, in one sentence: of a union each alternative would complain."""
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("it is no number of images, 1 or more, and not auto")


CountOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_count_or_auto)]


def _window(value: str) -> str:
    """Refuse what is no window, in one sentence."""
    if re.fullmatch(r"\d+:0*[1-9]\d*", value) is None:
        raise ValueError("it is no START:STEPS of iterations, such as 20:5")
    return value


def _store(value: str) -> str:
    """Read a URL as data.path does, without a password in it; refuse what is none, in one sentence."""
    if "://" not in value:
        raise ValueError("it is no URL, such as s3://bucket/runs or file:///archive/runs")
    return str(paths.typed_location(value))


def each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a name that is listed twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"listed twice: {', '.join(twice)}; list each once")
    return names


ProfileWindow = Annotated[str, AfterValidator(_window)]
Trackers = Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], AfterValidator(each_once)]
Strategy = Literal["ddp", "fsdp2", "zero1", "zero2", "zero3"]


class CacheConfig(Settings):
    """Whole shards on each node's own disk, fetched while the run trains."""

    path: PathSetting = may_change(..., description="folder on a disk of the node, which all its processes share")
    gigabytes: PositiveFloat = may_change(
        ..., description="room that shards may take there, of every set; what does not fit is read sample by sample"
    )


class DataConfig(Settings):
    """Where the images come from."""

    path: LocationSetting = may_change(
        ..., description="folder of shards that `python -m data_shards make` wrote, or its URL (s3, gs, http, ...)"
    )
    cache: CacheConfig | None = may_change(
        None, description="keeps whole shards on each node's own disk; null reads all from data.path"
    )
    variant: Variant = Field("plain", description="dSprites only: how the stored sprite is drawn (Table A.1)")
    painting: PathSetting | None = may_change(
        None, description="image file behind the sprites of scream; null draws a procedural texture"
    )
    workers: int = may_change(
        0,
        ge=0,
        strict=True,
        description="loader processes of each training process; 0 reads in the training process itself",
    )
    timeout_minutes: PositiveFloat = may_change(
        10.0, description="a batch that takes longer to read ends the run, with everything up to its last checkpoint"
    )


class GanDataConfig(DataConfig):
    """Stage 2 may also flip and dequantise; the dSprites family does neither."""

    flip: bool = Field(True, description="mirror each real with probability 1/2")
    dequantise: bool = Field(True, description="add U[0, 1/128) to reals in [-1, 1]")


class _LearningRate(Settings):
    """A learning rate over the run. The paper's is constant; a short run ends better with a smaller one."""

    lr: PositiveFloat = Field(1e-4, description="learning rate")
    lr_schedule: tuple[tuple[NonNegative, PositiveFloat], ...] = Field(
        (), description="[kimg, factor] points: lr is multiplied by the factor, linear between points; [] is factor 1"
    )

    @field_validator("lr_schedule")
    @classmethod
    def _rises_in_time(cls, schedule: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        times = [time for time, _ in schedule]
        if times != sorted(set(times)):
            raise ValueError("the kimg of its points must rise, as in [[60, 1], [100, 0.1]]")
        return schedule


class AdamConfig(_LearningRate):
    """torch.optim.Adam."""

    name: Literal["adam"] = "adam"
    betas: tuple[float, float] = Field(
        (0.9, 0.999), description="decay of Adam's means of gradients and of squared gradients, each in [0, 1)"
    )
    eps: PositiveFloat = Field(1e-8, description="added to the root of Adam's mean of squared gradients")

    @field_validator("betas")
    @classmethod
    def _in_range(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("both betas must lie in [0, 1), for example [0.9, 0.999]")
        return betas


class RMSpropConfig(_LearningRate):
    """torch.optim.RMSprop."""

    name: Literal["rmsprop"] = "rmsprop"
    alpha: float = Field(0.99, ge=0, lt=1, description="decay of RMSprop's mean of squared gradients")
    eps: PositiveFloat = Field(1e-8, description="added to the root of RMSprop's mean of squared gradients")


OptimizerConfig = Annotated[AdamConfig | RMSpropConfig, Field(discriminator="name")]


class InceptionConfig(Settings):
    """Files of the two Inception networks that published FIDs are made with; they are not shipped."""

    clean: PathSetting = may_change(Path("weights", CLEAN), description="Inception file for `fid --protocol clean`")
    clean_sha256: str | None = may_change(
        None, description="sha256 of inception.clean; null takes any file at first, and only the same one later"
    )
    legacy_pytorch: PathSetting = may_change(
        Path("weights", LEGACY_PYTORCH),
        description="Inception file for `fid --protocol legacy_pytorch`; its name ends with digits of its sha256",
    )


class EvaluationConfig(Settings):
    """Evaluation jobs while the run trains."""

    submit: bool = may_change(False, description="submit a job after each save that evaluates the new checkpoint")
    command: str = may_change(
        "sbatch slurm/eval_fid.sh",
        description="submits an evaluation job, from the folder where the run started; gets RUN --step STEP --release",
    )


class ScheduleConfig(Settings):
    """How long, and how often. Intervals are rounded up to whole iterations."""

    total_kimg: PositiveFloat = may_change(..., description="length of the run")
    tick_kimg: PositiveFloat = may_change(10, description="interval between status lines")
    sample_kimg: PositiveFloat = may_change(100, description="interval between sample grids")
    save_kimg: PositiveFloat = may_change(100, description="interval between checkpoints")
    compare_ticks: Count = may_change(
        10, description="every so many ticks, and before each save, processes compare the state that they share"
    )
    keep_last: int = may_change(2, ge=2, strict=True, description="how many of the newest checkpoints to keep")
    keep_every_kimg: PositiveFloat | None = may_change(
        None, description="also keep the first checkpoint of every N kimg; null keeps only the newest"
    )
    mirror: Annotated[str, AfterValidator(_store)] | None = may_change(
        None,
        description="URL of a folder in an object store (s3://, gs://, file://, any of fsspec) that each checkpoint is "
        "copied to, as URL/RUN-NAME/STEP; a run whose folder has no checkpoint resumes from there; null is none",
    )


class BetaConfig(Settings):
    """The weight of the KL term: `value`, or a schedule over images seen that ends in it.

    The paper's beta is constant. A short budget needs a schedule, or the posterior collapses at the start.
    """

    value: NonNegative = Field(
        1.0, description="weight of the KL term; with a schedule, its value after the last point"
    )
    schedule: tuple[tuple[NonNegative, NonNegative], ...] = Field(
        (), description="[kimg, beta] points, linear between them; the last one must have beta.value"
    )

    @model_validator(mode="after")
    def _rises_in_time(self) -> BetaConfig:
        times = [time for time, _ in self.schedule]
        if times != sorted(set(times)):
            raise ValueError("schedule: the kimg of its points must rise, as in [[0, 0], [100, 8]]")
        if self.schedule and self.schedule[-1][1] != self.value:
            raise ValueError(f"schedule: ends in {self.schedule[-1][1]}, value is {self.value}; make them the same")
        return self


class ConvNetConfig(Settings):
    """G and D of Table A.3, at 64 px."""

    name: Literal["conv"] = "conv"


class ResNetConfig(Settings):
    """G and D of Tables A.4 to A.7."""

    name: Literal["resnet"] = "resnet"
    nf: Count = Field(64, description="channels at full resolution; they double with every halving of the resolution")
    nf_max: Count = Field(512, description="most channels of any layer")
    nf_min: Count = Field(1, description="fewest channels of any ResBlock, for small networks of many resolutions")
    generator_nf: Count | None = Field(None, description="nf of the generator alone (Table A.5: 128); null is nf")


NetworkConfig = Annotated[ConvNetConfig | ResNetConfig, Field(discriminator="name")]


class BottleneckConfig(Settings):
    """VGAN's variational discriminator bottleneck: D's loss gains beta * KL, and beta keeps the KL at `information`."""

    information: NonNegative = Field(
        0.1, description="I_c, the KL that beta holds: 0.1 at 1024 px (Table A.7), VGAN's CelebA-128 0.2"
    )
    beta: NonNegative = Field(0.1, description="weight of the bottleneck's KL at the start of the run")
    beta_step: NonNegative = Field(
        1e-5, description="step of beta after each D step: beta <- max(0, beta - beta_step * (information - KL))"
    )
    sample_in_g_step: bool = Field(
        True, description="true: D adds the bottleneck's noise in G's step too; false: it takes the mean there"
    )


class CheckpointingConfig(Settings):
    """What the backward pass computes again instead of keeping it: memory for time, with the same gradients.

    R1 then takes its two passes (trainer/steps/r1.py), and what they keep is computed again too: see the tables in
    docs/performance.md.
    """

    from_resolution: Count = Field(
        128, description="ResBlocks at this resolution and above are computed again in the backward pass"
    )


class GrowthConfig(Settings):
    """Growth from start_resolution to full resolution: a hold at the first, a fade and a hold at each larger one."""

    start_resolution: Count = Field(64, description="resolution of the first phase, 4 * 2^k or 4 px")
    phase_kimg: PositiveFloat = Field(
        ..., description="length of the hold at a resolution, after its fade; the last hold ends with the run"
    )
    phase_kimg_at: dict[int, PositiveFloat] = Field(
        {}, description="length of the hold at single resolutions, where it is not phase_kimg"
    )
    fade_kimg: PositiveFloat = Field(..., description="length of the fade into a larger resolution")
    batch_size: dict[int, Count] = Field(
        {}, description="global batch size at single resolutions, where it is not the run's batch_size"
    )
    warm_start: bool = Field(
        False,
        description="what a phase adds is 0 until it is trained, and adds to the image layers of smaller resolutions, "
        "which stay: no picture and no logit jumps when the resolution grows",
    )


class DecayAverage(Settings):
    """The paper's: average <- decay * average + (1 - decay) * weights, whatever the batch size is."""

    decay: float = Field(
        ..., ge=0, lt=1, description="share of the average that an iteration keeps; 0.999 in the paper"
    )

    @property
    def name(self) -> str:
        """decay_0.999: of its tensors in a checkpoint, and of `evaluation --ema`."""
        return f"decay_{_short(self.decay)}"


class HalfLifeAverage(Settings):
    """Weights count half after so many images, whatever the batch size is."""

    half_life_kimg: PositiveFloat = Field(..., description="images after which weights count half in the average")

    @property
    def name(self) -> str:
        """half_life_10kimg."""
        return f"half_life_{_short(self.half_life_kimg)}kimg"


class PowerAverage(Settings):
    """Weights at image tau count as a power of tau, so the average widens with the run (Karras et al. 2024)."""

    sigma_rel: float = Field(
        ..., gt=0, le=0.28, description="width of a power-function average, relative to the images seen"
    )

    @property
    def name(self) -> str:
        """sigma_rel_0.1."""
        return f"sigma_rel_{_short(self.sigma_rel)}"


def _short(value: float) -> str:
    """The shortest digits that give the number back: 0.999, 10."""
    return repr(value).removesuffix(".0")


_AVERAGES = {"decay": "iterations", "half_life_kimg": "images", "sigma_rel": "power"}  # key: tag


def _average_tag(value: Any) -> str | None:
    """Return the tag of an average's kind, which its only key determines, or None."""
    keys = list(value) if isinstance(value, dict) else list(getattr(type(value), "model_fields", ()))
    return _AVERAGES.get(keys[0]) if len(keys) == 1 else None


AverageConfig = Annotated[
    Annotated[DecayAverage, Tag("iterations")]
    | Annotated[HalfLifeAverage, Tag("images")]
    | Annotated[PowerAverage, Tag("power")],
    Discriminator(
        _average_tag,
        custom_error_type="average",
        custom_error_message="an average has one key, {decay: 0.999}, {half_life_kimg: 10} or {sigma_rel: 0.1}",
    ),
]


class EmaConfig(Settings):
    """Averages of the generator's weights, kept side by side. The first one makes samples and metrics.

    Snapshots need two widths: the profiles between 0.05 and 0.1 come out of 30 snapshots of both to 0.1 % (relative
    residual), out of 30 of one alone to no more than 10 %.
    """

    averages: tuple[AverageConfig, ...] = Field(
        (DecayAverage(decay=0.999),),
        description="averages of G's weights; each costs the memory of a G on every device",
    )
    snapshot_kimg: PositiveFloat | None = may_change(
        None, description="interval between snapshots of the sigma_rel averages, in RUN/ema; null writes none"
    )

    @field_validator("averages", mode="before")
    @classmethod
    def _is_a_list(cls, averages: Any) -> Any:
        if not isinstance(averages, list | tuple) or not averages:
            raise ValueError("expected a list of one average or more, as in averages=[{decay: 0.999}]")
        return averages

    @field_validator("averages")
    @classmethod
    def _each_once(cls, averages: tuple[AverageConfig, ...]) -> tuple[AverageConfig, ...]:
        each_once(tuple(average.name for average in averages))
        return averages

    @model_validator(mode="after")
    def _can_be_reconstructed(self) -> EmaConfig:
        widths = len(self.widths)
        if self.snapshot_kimg is not None and widths < 2:
            raise ValueError(
                f"snapshot_kimg: {self.snapshot_kimg:g} stores the averages with a sigma_rel; there are {widths}, and "
                "two are needed; add {sigma_rel: 0.05} and {sigma_rel: 0.1} to averages, or set ema.snapshot_kimg=null"
            )
        return self

    @property
    def widths(self) -> tuple[PowerAverage, ...]:
        """The power-function averages, which snapshots are written of."""
        return tuple(average for average in self.averages if isinstance(average, PowerAverage))
