"""Settings that contradict each other."""

from __future__ import annotations

from models.resnet import block_resolutions

from .schema import GanConfig, VaeConfig
from .sections import GrowthConfig
from .settings import Settings


def contradictions(config: Settings) -> list[str]:
    """List settings that are valid one by one but not together, a line each with the remedy.

    config: only the keys of its `linked` are read.
    """
    if isinstance(config, GanConfig):
        return _gan_contradictions(config)
    return _vae_contradictions(config) if isinstance(config, VaeConfig) else []


def _vae_contradictions(c: VaeConfig) -> list[str]:
    rules = [
        (
            c.gamma > 0 and c.optimizer_critic is None,
            f"gamma: {c.gamma:g} is FactorVAE's, whose critic has no optimizer; set optimizer_critic="
            "{name: adam, lr: 1e-4, betas: [0.5, 0.9]} or gamma=0",
        ),
        (
            c.optimizer_critic is not None and not c.gamma,
            "optimizer_critic: a critic without FactorVAE (gamma is 0); set gamma=10 or optimizer_critic=null",
        ),
        (
            c.micro_batch == "auto",
            "micro_batch: auto needs an estimate of the memory, which stage 1 has none of; set micro_batch=null for "
            "passes of the whole share, or name a number of images",
        ),
        _number_format(c),
    ]
    return [problem for wrong, problem in rules if wrong]


def _gan_contradictions(c: GanConfig) -> list[str]:
    """Check that settings agree and that each has an effect."""
    rules = [
        *_code(c),
        *_code_loss(c),
        *_penalty(c),
        *_freeze_d(c),
        *_strategy(c),
        *_watch(c),
        _augment(c),
        _number_format(c),
    ]
    return [problem for wrong, problem in rules if wrong] + _shape(c)


Rule = tuple[bool, str]  # (whether it is broken, the problem with its remedy)


def _number_format(c: VaeConfig | GanConfig) -> Rule:
    return (
        c.autocast != "none" and c.precision == "float64",
        "autocast: bfloat16 and precision: float64 contradict each other; set autocast=none",
    )


def _code(c: GanConfig) -> list[Rule]:
    """Where c comes from, and who sees it."""
    has_code, posterior = c.code_source != "none", c.code_source == "posterior"
    return [
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
    ]


def _code_loss(c: GanConfig) -> list[Rule]:
    """The loss that ties c to the image, and the q that it needs."""
    has_code, learns, posterior = c.code_source != "none", c.code_loss != "none", c.code_source == "posterior"
    return [
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


def _penalty(c: GanConfig) -> list[Rule]:
    """R1, R2 and their interval."""
    none = c.r1 == 0 and c.r2 == 0
    return [(none and c.r1_interval > 1, f"r1_interval: {c.r1_interval}, but r1 and r2 are 0; set r1_interval=1")]


def _freeze_d(c: GanConfig) -> list[Rule]:
    """The blocks of D that do not learn."""
    fresh = f"freeze_d: {c.freeze_d} blocks of D would keep their untrained weights"
    return [
        (c.freeze_d > 0 and c.init_from is None, f"{fresh}; set init_from=RUN, or freeze_d=0"),
        (
            c.freeze_d > 0 and c.growth is not None,
            f"{fresh} where the resolution grows; set growth=null, or freeze_d=0",
        ),
    ]


def _augment(c: GanConfig) -> Rule:
    """What is done to the images that D sees."""
    return (
        c.augment is not None and not c.augment.transforms,
        "augment.transforms: is empty, so that no image would be augmented; set augment=null, or name some",
    )


def _watch(c: GanConfig) -> list[Rule]:
    """The watch against a collapse; what depends on the schedule is in preflight.py."""
    watch = c.watch
    if watch is None:
        return []
    return [
        (
            watch.action == "rewind" and watch.rewinds is None,
            "watch.rewinds: is missing, and watch.action: rewind needs it; set watch.rewinds=3",
        ),
        (
            watch.action != "rewind" and watch.rewinds is not None,
            f"watch.rewinds: {watch.rewinds}, but watch.action is {watch.action}; set watch.action=rewind, or "
            "watch.rewinds=null",
        ),
        (
            watch.bottleneck_beta is not None and c.bottleneck is None,
            f"watch.bottleneck_beta: {watch.bottleneck_beta}, but there is no bottleneck; set "
            "watch.bottleneck_beta=null",
        ),
    ]


def _strategy(c: GanConfig) -> list[Rule]:
    """Settings that a strategy cannot run with; tests/trainer/distributed/test_impossible.py shows each reason."""
    zero = c.strategy.startswith("zero")
    return [
        (
            c.compile and c.strategy in ("fsdp2", "zero3"),
            f"strategy: {c.strategy} gathers parameters within a pass, which no single compiled graph can hold; "
            "set compile=false, or strategy=ddp",
        ),
        (
            zero and c.precision == "float64",
            f"strategy: {c.strategy}, but precision is float64 and DeepSpeed steps in float32; "
            "set precision=float32, or strategy=fsdp2",
        ),
    ]


def _shape(c: GanConfig) -> list[str]:
    """Resolution, network, bottleneck and growth."""
    if c.network.name == "conv":
        rules = [
            (
                c.resolution != 64,
                f"resolution: {c.resolution}, but network conv (Table A.3) is 64 px; set it to 64",
            ),
            (c.bottleneck is not None, "bottleneck: network conv (Table A.3) has none; set bottleneck=null"),
            (c.growth is not None, "growth: network conv (Table A.3) does not grow; set growth=null"),
            (c.checkpointing is not None, "checkpointing: network conv (Table A.3) has no ResBlocks; set it to null"),
            (c.freeze_d > 4, f"freeze_d: {c.freeze_d}, but D of Table A.3 has 4 convolutions; set at most 4"),
        ]
        return [f"{problem} or network={{name: resnet}}" for wrong, problem in rules if wrong]
    try:
        resolutions = block_resolutions(c.resolution)
    except ValueError as error:
        return [f"resolution: {error}"]
    problems = []
    if c.freeze_d > len(resolutions):
        problems.append(
            f"freeze_d: {c.freeze_d}, but D has {len(resolutions)} ResBlocks; set at most {len(resolutions)}"
        )
    if c.network.nf_max < c.network.nf:
        problems.append(f"network.nf: {c.network.nf} is above nf_max {c.network.nf_max}; set nf_max higher or nf lower")
    if (c.network.generator_nf or 0) > c.network.nf_max:
        problems.append(
            f"network.generator_nf: {c.network.generator_nf} is above nf_max {c.network.nf_max}; set nf_max higher or "
            "generator_nf lower"
        )
    if c.network.nf_min > c.network.nf_max:
        problems.append(
            f"network.nf_min: {c.network.nf_min} is above nf_max {c.network.nf_max}; set nf_max higher or nf_min lower"
        )
    if c.checkpointing and c.checkpointing.from_resolution > c.resolution:
        problems.append(
            f"checkpointing.from_resolution: {c.checkpointing.from_resolution} is above resolution {c.resolution}, so "
            "nothing is checkpointed; set it lower, or checkpointing=null"
        )
    return problems + ([] if c.growth is None else _growth(c.growth, resolutions))


def _growth(growth: GrowthConfig, resolutions: list[int]) -> list[str]:
    """Growth over the resolutions of a network, the smallest first."""
    start, full = growth.start_resolution, resolutions[-1]
    if start not in resolutions[:-1]:
        choices = ", ".join(map(str, resolutions[:-1]))
        return [
            f"growth.start_resolution: {start} is no resolution of the network below {full}; choose {choices}, "
            "or set growth=null"
        ]
    grown = {r for r in resolutions if r >= start}
    wrong = [("batch_size", r) for r in sorted(set(growth.batch_size) - grown)]
    wrong += [("phase_kimg_at", r) for r in sorted(set(growth.phase_kimg_at) - grown)]
    problems = [f"growth.{key}: {r} px is no resolution from {start} to {full} px; leave it out" for key, r in wrong]
    if full in growth.phase_kimg_at:
        problems.append(f"growth.phase_kimg_at: {full} px holds to the end; set schedule.total_kimg instead")
    return problems
