"""The shipped configs beyond dSprites, and what their headers say.

PATHS: those of the paper's data sets; FACES: those of drawn faces; RESULTS: recipes of the shipped models.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

CONFIGS = Path("configs")
SETS = ("celeba", "celeba_hq", "chairs", "cars", "hd_dsprites")


def _paths(*folders: str) -> dict[str, Path]:
    """The configs of some data sets by name, such as celeba/64."""
    return {f"{path.parent.name}/{path.stem}": path for f in folders for path in sorted((CONFIGS / f).glob("*.yaml"))}


PATHS, FACES, RESULTS = _paths(*SETS), _paths("faces"), _paths("results")
ALL = PATHS | FACES | RESULTS
GANS = [name for name in PATHS if not name.endswith("vae")]
VAES = [name for name in PATHS if name.endswith("vae")]


def header(name: str) -> list[str]:
    """The comment that a config begins with, line by line, without its marks."""
    lines = ALL[name].read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [line[1:] for line in lines[:end]]


def commands(name: str) -> list[list[str]]:
    """The header's indented lines, each a command as arguments."""
    lines = [line.strip() for line in header(name) if line.startswith("   ")]
    return [shlex.split(line) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


def making(name: str) -> list[str]:
    """What follows `python -m data_shards` in the command that makes the config's shards."""
    (found,) = [args[3:] for args in commands(name) if "data_shards" in args]
    return found


def training(name: str) -> list[str]:
    """What follows `-m trainer` in the command that trains this config."""
    (found,) = [args[args.index("trainer") + 1 :] for args in commands(name) if str(ALL[name]) in args]
    return found


def literal(name: str) -> list[str] | None:
    """The overrides that make the paper's own setting of it; None where the paper has none."""
    text = " ".join(line.strip() for line in header(name))
    if "The paper's literal setting: this file as it is." in text:
        return []
    found = re.search(r"The paper's literal setting(?: for CelebA-HQ)?: `([^`]+)`", text)
    return shlex.split(found[1]) if found else None
