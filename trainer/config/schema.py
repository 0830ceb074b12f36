"""The settings of both stages. Units stand in the names and descriptions; kimg = 1,000 images seen by the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat

from .sections import (
    AdamConfig,
    BetaConfig,
    BottleneckConfig,
    CheckpointingConfig,
    ConvNetConfig,
    Count,
    CountOrAuto,
    DataConfig,
    EmaConfig,
    EvaluationConfig,
    GanDataConfig,
    GrowthConfig,
    InceptionConfig,
    NetworkConfig,
    NonNegative,
    OptimizerConfig,
    ProfileWindow,
    RMSpropConfig,
    ScheduleConfig,
    Strategy,
    Trackers,
    each_once,
)
from .settings import PathSetting, Settings, may_change

SYSTEMS = {  # (code_source, code_loss, d_sees_code): the paper's name
    ("none", "none", False): "GAN",
    ("prior", "info", False): "InfoGAN",
    ("posterior", "none", True): "cGAN",
    ("posterior", "none", False): "ID-GAN without distillation",
    ("posterior", "distill", False): "ID-GAN",
}


class WatchConfig(Settings):
    """Signs of a collapse, which every tick looks for, and what follows them."""

    action: Literal["warn", "stop", "rewind"] = Field(
        "warn",
        description="what follows a sign: a warning (warn), the end of the run with exit code 2 (stop), or another try "
        "from the last checkpoint before the sign, with other random numbers (rewind)",
    )
    rewinds: Count | None = Field(
        None, description="with action: rewind, how often at most; the run then stops at the next sign"
    )
    ticks: Count = Field(3, description="a sign counts once so many ticks in a row have it")
    from_kimg: NonNegative = Field(
        20, description="no sign counts before: G is nearly constant at first, and D is soon sure of itself"
    )
    logit_gap: PositiveFloat = Field(
        20, description="sign: the means of D's logits for reals and for fakes are this far apart, or farther"
    )
    sample_spread: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="sign: the standard deviation over 16 samples, as a part of that over 16 reals (mean over pixels), "
        "is this or less",
    )
    gradient_factor: float = Field(
        300,
        gt=1,
        description="sign: the norm of the gradient of D, of G or of InfoGAN's q is 0, or so many times below or above "
        "its geometric mean over the ticks so far",
    )
    bottleneck_beta: PositiveFloat | None = Field(
        None, description="sign: the bottleneck's beta is this or more; null is 100 where there is a bottleneck"
    )


class DiffAugmentConfig(Settings):
    """DiffAugment (Zhao et al., 2020): every image that D sees is changed."""

    kind: Literal["diffaugment"] = Field("diffaugment", description="DiffAugment")
    transforms: tuple[Literal["color", "translation", "cutout"], ...] = Field(
        ("color", "translation", "cutout"),
        description="what acts on each image: brightness, saturation and contrast (color), a move by up to an eighth "
        "of the side (translation), a square of half of the side set to mid-grey (cutout)",
    )


class AdaConfig(Settings):
    """ADA (Karras et al., 2020): each transform acts with a probability p, which follows D's certainty of the reals."""

    kind: Literal["ada"] = Field("ada", description="ADA")
    target: float = Field(
        0.6,
        gt=-1,
        lt=1,
        description="p rises while the mean of sign D(x) over the reals is above it, and falls while it is below",
    )
    kimg: PositiveFloat = Field(500, description="p moves by 1 in so many kimg")
    interval: Count = Field(4, description="iterations between moves of p")
    most: float = Field(
        0.8, gt=0, le=1, description="largest p; above some 0.8 the samples begin to look like augmented images"
    )
    transforms: tuple[Literal["flip", "turn", "translation", "scale", "color", "cutout"], ...] = Field(
        ("flip", "turn", "translation", "scale", "color"),
        description="what may act: mirroring (flip), quarter turns (turn), a move by up to an eighth of the side "
        "(translation), scaling and a move by parts of a pixel (scale), brightness, contrast, luma flip, hue and "
        "saturation (color), a square of half of the side set to mid-grey (cutout)",
    )


def _listed(names: object) -> object:
    """Take one name as a list of one; refuse an empty list, in one sentence."""
    if names in ([], (), ""):
        raise ValueError("it names no label; name one or more, or set labels=null")
    if not isinstance(names, str | list | tuple):
        raise ValueError("it is no name of a label, and no list of names")
    return [names] if isinstance(names, str) else names


LabelNames = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(each_once)]
AugmentConfig = Annotated[DiffAugmentConfig | AdaConfig, Field(discriminator="kind")]


class RunConfig(Settings):
    """Settings that both stages share."""

    run: PathSetting | None = may_change(
        None,
        description="run folder; null is the run folder that the config lies in, else runs/NAME, with NAME from the "
        "config's path",
    )
    seed: int = Field(
        0, ge=0, lt=2**32, strict=True, description="decides initial weights, order and every random number"
    )
    batch_size: Count = Field(64, description="images of an iteration, over all processes")
    micro_batch: CountOrAuto | None = may_change(
        None,
        description="most images that a process passes through the networks at once: its share of each batch is split "
        "into equal parts; null is the whole share, auto (stage 2) the largest parts that fit into the free memory",
    )
    processes: Count | None = may_change(
        None, description="the run refuses any other number of processes; null takes any"
    )
    timeout_minutes: PositiveFloat = may_change(
        60.0, description="how long the processes wait for one of them before the run ends; a slow disk takes its time"
    )
    device: Literal["auto", "cpu", "cuda"] = may_change(
        "auto", description="auto is a GPU where torch finds one, else the CPU"
    )
    speed: Literal["exact", "fast"] = may_change(
        "exact",
        description="on a GPU, exact computes in full fp32 and the same bits every time; fast takes TF32 products and "
        "any order of summation, and resumes to rounding. A CPU computes the same bits under both",
    )
    trackers: Trackers = may_change(
        ("tensorboard",),
        description="where the numbers of each tick, the sample grids and the settings are sent too; [] is nowhere. "
        "wandb and mlflow need their package (extras of these names)",
    )
    profile: ProfileWindow | None = may_change(
        None,
        description="START:STEPS writes a trace of STEPS iterations, after the first START of the command, to "
        "RUN/profile; null is none",
    )
    precision: Literal["float32", "float64"] = Field(
        "float32", description="number format of weights and training; float64 is for exact comparisons"
    )
    autocast: Literal["none", "bfloat16"] = Field(
        "none",
        description="bfloat16 for the passes through the networks, except R1's and those of the frozen encoder; "
        "losses, weights and optimizers keep the number format of precision",
    )
    data: DataConfig
    schedule: ScheduleConfig
    inception: InceptionConfig = InceptionConfig()


class VaeConfig(RunConfig):
    """Stage 1: `python -m trainer vae CONFIG`. VAE: beta 1; FactorVAE: gamma > 0 and a critic."""

    c_dim: Count = Field(10, description="size of the code")
    init: Literal["normal", "default"] = Field(
        "normal", description="initial weights: the paper's N(0, 0.02), or PyTorch's (default)"
    )
    likelihood: Literal["bernoulli", "gaussian"] = Field(
        "bernoulli", description="reconstruction term: cross-entropy (bernoulli) or squared error (gaussian)"
    )
    beta: BetaConfig = BetaConfig()
    gamma: NonNegative = Field(0, description="weight of FactorVAE's total correlation; 0 is no FactorVAE")
    optimizer: AdamConfig = AdamConfig()
    optimizer_critic: AdamConfig | None = Field(None, description="optimizer of FactorVAE's critic; null is no critic")
    linked: ClassVar = frozenset({"gamma", "optimizer_critic", "autocast", "precision", "micro_batch"})

    @property
    def system(self) -> str:
        """The paper's name for these settings."""
        if self.gamma:
            return "FactorVAE"
        return "VAE" if self.beta.value == 1 else "beta-VAE"


class GanConfig(RunConfig):
    """Stage 2: `python -m trainer gan CONFIG [vae=RUN]`.

    code_source, code_loss and d_sees_code make the paper's systems; see `system`.
    """

    data: GanDataConfig
    vae: PathSetting | None = may_change(
        None, description="frozen encoder q: a run of stage 1, an export, a vae.safetensors, or your own encoder.pt2"
    )
    init_from: PathSetting | None = Field(
        None,
        description="networks that the run starts from: a run, or an export (D starts fresh where it holds none); of "
        "stage 1 the decoder, which is Table A.3's generator",
    )
    freeze_d: int = Field(
        0,
        ge=0,
        strict=True,
        description="D's first N blocks, those next to the image, keep the weights that init_from gives them",
    )
    code_source: Literal["none", "prior", "posterior"] = Field(
        "posterior", description="no c, c ~ N(0, I) (prior), or c ~ q(c|x) of the batch's reals by the frozen q"
    )
    code_loss: Literal["none", "info", "distill"] = Field(
        "distill", description="term -lambda log q(c|G(s, c)): none, with a q that learns with G, or with the frozen q"
    )
    code_weight: NonNegative = Field(0, description="lambda, the weight of the code loss")
    d_sees_code: bool = Field(False, description="D judges pairs (x, c) instead of images")
    labels: LabelNames | None = Field(
        None,
        description="labels or discrete factors of the set that G and D are told of every image, NAME or [NAME, ...]; "
        "null is none",
    )
    c_dim: int = Field(10, ge=0, strict=True, description="size of the code; the same as the encoder's")
    s_dim: int = Field(0, ge=0, strict=True, description="size of the nuisance vector")
    resolution: Count = Field(64, description="side of the generated images")
    network: NetworkConfig = ConvNetConfig()
    bottleneck: BottleneckConfig | None = Field(None, description="VGAN's variational bottleneck in D; null is none")
    augment: AugmentConfig | None = Field(
        None, description="what is done to every image that D sees, for sets of few images; null is nothing"
    )
    growth: GrowthConfig | None = Field(
        None, description="growth of the resolution over the run; null trains at full resolution from the start"
    )
    checkpointing: CheckpointingConfig | None = may_change(
        None, description="gradient checkpoints in G and D; null keeps all activations for the backward pass"
    )
    compile: bool = may_change(
        False, description="compile every pass through G, D and q with torch.compile: takes minutes at the start"
    )
    strategy: Strategy = may_change(
        "ddp",
        description="what the processes split of G and D: nothing (ddp), all (fsdp2), or as ZeRO's stages 1 to 3 do",
    )
    objective: Literal["logistic", "relativistic"] = Field(
        "logistic",
        description="loss of D and G: the paper's, or of the difference of a real's logit and a fake's (relativistic), "
        "which wants r2 beside r1",
    )
    r1: NonNegative = Field(
        10, description="weight of R1, mean ||grad||^2 (no 1/2: the literature's gamma is twice this)"
    )
    r2: NonNegative = Field(0, description="weight of R2, which is R1 at the generated images; 0 is none")
    r1_interval: Count = Field(
        1, description="k: R1 and R2 in every k-th iteration, with k times their weights (lazy R1)"
    )
    optimizer_g: OptimizerConfig = RMSpropConfig(lr=1e-3)
    optimizer_d: OptimizerConfig = RMSpropConfig(lr=1e-4)
    optimizer_q: OptimizerConfig | None = Field(
        None, description="optimizer of the q that learns with G (code_loss: info); null elsewhere"
    )
    ema: EmaConfig = EmaConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    watch: WatchConfig | None = may_change(
        WatchConfig(), description="what is done about signs of a collapse; null looks for none"
    )
    linked: ClassVar = frozenset(
        {"code_source", "code_loss", "code_weight", "d_sees_code", "c_dim", "s_dim", "vae", "optimizer_q"}
        | {"resolution", "network", "bottleneck", "growth", "checkpointing", "autocast", "precision"}
        | {"init_from", "freeze_d"}
        | {"compile", "strategy", "watch", "augment"}
    )

    @property
    def system(self) -> str:
        """The paper's name for these settings, or a name of our own where it has none."""
        name = SYSTEMS.get((self.code_source, self.code_loss, self.d_sees_code))
        return name or "cGAN with distillation"


def kind_of(values: Mapping[str, object]) -> type[VaeConfig] | type[GanConfig]:
    """Return the class of a saved config, nested or flat: that of its stage."""
    return VaeConfig if "likelihood" in values else GanConfig
