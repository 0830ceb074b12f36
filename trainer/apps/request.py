"""What the user of `generate` asks for, read and checked. This file imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from common.errors import UserError, joined

Video = Literal["mp4", "webp"]
Device = Literal["auto", "cpu", "cuda"]
T = TypeVar("T")

MOST_IMAGES = 1_000_000  # of a command
LAST_SEED = 2**32 - 1
MOST_CELLS = 1024  # of a grid: 200 MB where each has 256 px
MOST_WEBP_SEEDS = 100  # of a walk as WebP, whose frames are in memory together


class Problems:
    """Collects what is wrong, so that the user can mend all of it in one go."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def read(self, function: Callable[[], T]) -> T | None:
        """Return what a function returns; None where it raises a UserError, which is collected."""
        try:
            return function()
        except UserError as error:
            self._found += error.problems or [str(error)]
            return None

    def refuse(self, what: str) -> None:
        """Raise a UserError with all problems of a command, if there is one."""
        if len(self._found) == 1:
            raise UserError(self._found[0])
        if self._found:
            raise joined(what, self._found)


@dataclass(frozen=True)
class Request:
    """What is asked for.

    model: a run or an export; seeds: the images, in their order; psi: in (0, 1]; codes: "posterior", "prior", a path,
    or None for those of training; classes: of all images, such as shape=heart, or None; grid: (rows, columns) or None;
    traverse: "all", names of latents, or None; step, ema: of a run, see `open_model`.
    """

    model: Path
    out: Path
    seeds: tuple[int, ...]
    psi: float
    codes: str | None
    classes: str | None
    grid: tuple[int, int] | None
    traverse: str | None
    video: Video | None
    step: str | None
    ema: str | None
    device: Device

    @property
    def walks(self) -> bool:
        """Whether a walk through the seeds is asked for."""
        return self.video is not None and len(self.seeds) > 1

    @classmethod
    def typed(
        cls,
        model: Path,
        out: Path,
        seeds: str,
        psi: float,
        codes: str | None,
        classes: str | None,
        grid: str | None,
        traverse: str | None,
        video: Video | None,
        step: str | None,
        ema: str | None,
        device: Device,
    ) -> Request:
        """Read the options as they were typed. Raises one UserError with all that is wrong with them."""
        problems = Problems()
        numbers = problems.read(lambda: seed_numbers(seeds)) or ()
        cells = problems.read(lambda: None if grid is None else grid_shape(grid, len(numbers)))
        problems.read(lambda: _refuse_psi(psi))
        problems.read(lambda: _refuse_video(video, len(numbers), traverse))
        problems.refuse("generate")
        return cls(model, out, numbers, psi, codes, classes, cells, traverse, video, step, ema, device)


def seed_numbers(text: str) -> tuple[int, ...]:
    """Read seeds such as 0-63 or 1,5,9-12, in their order.

    Raises a UserError where it is none of these forms, or has a seed twice, one that is too large, or too many.
    """
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip(), re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if first > last:
            raise UserError(f"--seeds: {text}: {part.strip()!r} is no seed or range; write such as 0-63 or 1,5,9-12")
        if last > LAST_SEED:
            raise UserError(f"--seeds: {text}: {last} is too large; the last seed is {LAST_SEED}")
        ranges.append(range(first, last + 1))
    count = sum(map(len, ranges))
    if count > MOST_IMAGES:
        raise UserError(f"--seeds: {text}: {count:,} images; ask for at most {MOST_IMAGES:,} at once")
    numbers = tuple(seed for part in ranges for seed in part)
    if len(set(numbers)) != count:
        raise UserError(f"--seeds: {text}: has a seed twice; name each once")
    return numbers


def seeds_text(seeds: tuple[int, ...]) -> str:
    """Write seeds as `seed_numbers` reads them: 0-63."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][1] + 1:
            parts[-1][1] = seed
        else:
            parts.append([seed, seed])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def grid_shape(text: str, count: int) -> tuple[int, int]:
    """Read ROWSxCOLUMNS. count: of the images; 0 where it is not known.

    Raises a UserError where it is none, has no place for all images, or is too large.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.strip(), re.ASCII)
    if match is None:
        raise UserError(f"--grid: {text}: is no grid; write ROWSxCOLUMNS, such as 8x8")
    rows, columns = int(match[1]), int(match[2])
    if rows * columns > MOST_CELLS:
        raise UserError(f"--grid: {text}: has {rows * columns:,} places; ask for at most {MOST_CELLS:,}")
    if count > rows * columns:
        raise UserError(
            f"--grid: {text}: has places for {rows * columns} of {count:,} images; ask for more places, or fewer seeds"
        )
    return rows, columns


def _refuse_psi(psi: float) -> None:
    if not 0 < psi <= 1:
        raise UserError(f"--psi: {psi:g}: must be above 0 and at most 1; 1 is no truncation, 0.7 is usual")


def _refuse_video(video: Video | None, count: int, traverse: str | None) -> None:
    """Raise a UserError where a video cannot be written. count: of the seeds."""
    if video == "mp4":
        from trainer.pictures.video import refuse_no_mp4

        refuse_no_mp4()
    if video == "webp" and count > MOST_WEBP_SEEDS:
        raise UserError(
            f"--video: webp: {count:,} seeds are too long a walk; ask for at most {MOST_WEBP_SEEDS}, or take mp4"
        )
    if video is not None and count == 1 and traverse is None:
        raise UserError(f"--video: {video}: a walk needs two seeds or more; ask for more, or name latents (--traverse)")
