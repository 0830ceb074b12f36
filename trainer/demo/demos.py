"""What the demos train and show. A demo is a list of steps, each a command line of this project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common import shipped
from common.errors import UserError
from trainer.config.file_names import METADATA

Name = Literal["sprites", "faces", "growth"]
RUNS = Path("runs/demo")
SHIPPED = RUNS / "shipped"  # copies of pretrained/: the records of what is measured lie beside an export
SPRITES, FACES = "data/demo", "data/demo-faces"
# Of pretrained/: what a demo trains on, and what it compares with.
ENCODER, GENERATOR = "dsprites-beta_vae", "dsprites-idgan"
FACES_ENCODER, FACES_GENERATOR = "faces-beta_vae", "faces-64-idgan"


@dataclass(frozen=True)
class Training:
    """A training of a demo.

    what: for a reader; settings: what follows `python -m trainer STAGE`; run: its folder; fewest, most: kimg, between
    which it is as long as the time allows; the same where its length is fixed; phases: (px, weight) of each resolution,
    by its share of the images, none in stage 1; encoder: of pretrained/, on which it is timed.
    """

    what: str
    stage: Literal["vae", "gan"]
    settings: tuple[str, ...]
    run: Path
    fewest: float
    most: float
    phases: tuple[tuple[int, float], ...] = ()
    encoder: str = ""

    def argv(self, kimg: float) -> list[str]:
        """Return what follows `python -m` for a training of this length.

        Learning rates of one that follows the time fall to a tenth over its last two fifths: images get steady.
        """
        length = [f"schedule.total_kimg={kimg:g}"]
        if self.fewest < self.most:
            points = f"[[0, 1], [{0.6 * kimg:g}, 1], [{kimg:g}, 0.1]]"
            length += [f"optimizer_{network}.lr_schedule={points}" for network in "gd"]
        return ["trainer", self.stage, *self.settings, *length]


@dataclass(frozen=True)
class Step:
    """A step that is no training. seconds: what it took on the machine of Demo.seconds_per_kimg."""

    what: str
    argv: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Demo:
    """The data, what shipped models do, trainings, and what is measured of them, in this order.

    few: settings of the same data, of few images, to time iterations on; seconds_per_kimg: of the last training, on the
    machine where the seconds of the steps were measured; page: the last step's.
    """

    data: Step
    few: tuple[str, ...]
    before: tuple[Step, ...]
    trainings: tuple[Training, ...]
    after: tuple[Step, ...]
    seconds_per_kimg: float
    page: Path


def demo(name: Name, own_vae: bool = False) -> Demo:
    """Return a demo. own_vae: train the encoder too, in place of a shipped one.

    Raises a UserError where that is asked of another demo than `sprites`.
    """
    if name == "sprites":
        return _sprites(own_vae)
    if own_vae:
        raise UserError(f"--vae own: the demo {name} trains on a shipped encoder; leave --vae out, or name sprites")
    return _faces() if name == "faces" else _growth()


def exports() -> list[str]:
    """Return the names of the shipped models."""
    return sorted(path.parent.name for path in (shipped.ROOT / "pretrained").glob(f"*/{METADATA}"))


def _sprites(own_vae: bool) -> Demo:
    sprites, run = ("dsprites", "--count"), RUNS / ("sprites-on-own-vae" if own_vae else "sprites")
    vae_run = RUNS / "sprites-vae"
    vae = Training("beta-VAE on dSprites", "vae", ("configs/demo/vae.yaml", f"run={vae_run}"), vae_run, 120, 120)
    encoder = str(vae_run) if own_vae else f"pretrained/{ENCODER}"
    gan = Training(
        "ID-GAN on dSprites, from its first image",
        "gan",
        ("configs/demo/gan.yaml", f"run={run}", f"vae={encoder}", *_number_format()),
        run,
        fewest=64,
        most=160,
        phases=((64, 1),),
        encoder=ENCODER,
    )
    return Demo(
        data=_made(SPRITES, "60,000 dSprites", (*sprites, "60000"), 20),
        few=(*sprites, "256"),
        before=(*_measured(GENERATOR, SPRITES), _shown()),
        trainings=(vae, gan) if own_vae else (gan,),
        after=(_compared(run, GENERATOR, SPRITES),),
        seconds_per_kimg=2.6,
        page=RUNS / "page" / "index.html",
    )


def _faces() -> Demo:
    faces, run = ("faces", "--resolutions", "64", "--count"), RUNS / "faces"
    gan = Training(
        "ID-GAN on drawn faces, from its first image",
        "gan",
        (
            "configs/results/faces_64_idgan.yaml",
            f"run={run}",
            f"data.path={FACES}",
            "schedule.sample_kimg=5",
            *_number_format(),
        ),
        run,
        fewest=40,
        most=300,
        phases=((64, 1),),
        encoder=FACES_ENCODER,
    )
    return Demo(
        data=_made(FACES, "10,000 drawn faces", (*faces, "10000"), 100),
        few=(*faces, "64"),
        before=(_shown(),),
        trainings=(gan,),
        after=(_compared(run, FACES_GENERATOR, FACES),),
        seconds_per_kimg=7,
        page=RUNS / "page-faces" / "index.html",
    )


def _growth() -> Demo:
    sprites, run = ("dsprites", "--resolutions", "128,64", "--count"), RUNS / "growth"
    settings = ("configs/demo/growth.yaml", f"run={run}", f"vae=pretrained/{ENCODER}", *_number_format())
    phases = ((32, 15), (64, 19), (128, 26))  # kimg, the fades in the larger one
    gan = Training("ID-GAN on dSprites, growing from 32 to 128 px", "gan", settings, run, 60, 60, phases, ENCODER)
    return Demo(
        data=_made(f"{SPRITES}-128", "20,000 dSprites of 128 px", (*sprites, "20000"), 30),
        few=(*sprites, "256"),
        before=(_shown(),),
        trainings=(gan,),
        after=(
            Step("FID and sharpness", ("evaluation", "fid", str(run), "--samples", "5000", "--of", "gan,vae"), 60),
            Step("pictures", ("evaluation", "figures", str(run)), 20),
            Step("one page", ("evaluation", "report", str(run), "--out", str(RUNS / "page-growth")), 10),
        ),
        seconds_per_kimg=7,
        page=RUNS / "page-growth" / "index.html",
    )


def _number_format() -> tuple[str, ...]:
    """Return the settings of a machine that emulates bf16, in which the demos train elsewhere: 20 times as slow."""
    import torch

    from trainer.steps.autocast import has_bf16

    return () if has_bf16(torch.device("cuda" if torch.cuda.is_available() else "cpu")) else ("autocast=none",)


def _made(folder: str, what: str, settings: tuple[str, ...], seconds: float) -> Step:
    return Step(f"{what} drawn", ("data_shards", "make", *settings, "--out", folder), seconds)


def _measured(name: str, data: str) -> tuple[Step, ...]:
    """Measure a shipped generator, where there is one."""
    if name not in exports():
        return ()
    of = str(SHIPPED / name)
    fid = ("evaluation", "fid", of, "--samples", "10000", "--of", "gan,vae")
    alignment = ("evaluation", "alignment", of, "--samples", "2000", "--data", data)
    return Step(f"FID of {name}", fid, 15), Step(f"what {name} keeps of a sprite", alignment, 12)


def _shown() -> Step:
    """Draw what the shipped models make."""
    copies = [str(SHIPPED / name) for name in exports()]
    return Step("what shipped models make", ("evaluation", "showcase", *copies, "--out", str(SHIPPED / "page")), 30)


def _compared(run: Path, shipped_name: str, data: str) -> Step:
    """Measure a run beside the shipped model of its kind, where there is one, and write their page."""
    others = [str(SHIPPED / shipped_name)] if shipped_name in exports() else []
    out = RUNS / ("page" if shipped_name == GENERATOR else "page-faces")
    measured = ("evaluation", "beside", str(run), *others, "--data", data, "--out", str(out), "--samples", "5000")
    return Step("both measured", measured, 55)
