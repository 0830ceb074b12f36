"""Files that come with the program: configs/, slurm/ and pretrained/ of the source, in a wheel trainer/shipped/."""

from __future__ import annotations

import difflib
from pathlib import Path

_PARENT = Path(__file__).parents[1]
IS_SOURCE = (_PARENT / "pyproject.toml").is_file()
ROOT = _PARENT if IS_SOURCE else _PARENT / "trainer" / "shipped"
FOLDERS = ("configs", "pretrained", "slurm")
LISTING = "python -m trainer shipped"  # prints `names`


def found(path: Path) -> Path:
    """Return a path as it is, or where there is no such one, the file or folder of that name that was shipped, if any.

    So pretrained/NAME means the same in every folder.
    """
    if path.exists() or path.is_absolute() or ".." in path.parts or path.parts[:1] not in [(f,) for f in FOLDERS]:
        return path
    shipped = ROOT / path
    return shipped if shipped.exists() else path


def config(path: Path) -> Path:
    """Return a config's path as it is, or where there is no such file, the shipped config of that name, if any.

    configs/dsprites/idgan.yaml, dsprites/idgan.yaml and dsprites/idgan all name the same one.
    """
    if path.is_file() or path.is_absolute() or ".." in path.parts:
        return path
    parts = path.parts[1:] if path.parts[:1] == ("configs",) else path.parts
    inside = ROOT.joinpath("configs", *parts)
    named = (inside, inside.with_name(f"{inside.name}.yaml"))
    return next((shipped for shipped in named if parts and shipped.is_file()), path)


def names() -> list[str]:
    """Return the names of all that is shipped: each config and job script, and the folder of each model."""
    configs = sorted((ROOT / "configs").rglob("*.yaml"))
    scripts = sorted(path for path in (ROOT / "slurm").iterdir() if path.is_file())
    models = sorted(path for path in (ROOT / "pretrained").iterdir() if path.is_dir())
    return [str(path.relative_to(ROOT)) for path in (*configs, *models, *scripts)]


def suggestion(name: str) -> str:
    """Return the remedy for a name that is not shipped: the nearest that is, if one is near, and what lists them."""
    near = difflib.get_close_matches(name, [each for full in names() for each in (full, _short(full))], 1, 0.75)
    return f"{f'did you mean {near[0]}? ' if near else ''}`{LISTING}` lists what comes with the program"


def _short(name: str) -> str:
    """Return the short name of a config, as in dsprites/idgan; other names as they are."""
    return name.removeprefix("configs/").removesuffix(".yaml")


def installing(extra: str) -> str:
    """Return the command that installs the packages of an extra, such as `parquet`, into this environment."""
    if IS_SOURCE:
        return f"in the project's folder: pip install -c constraints.txt -e '.[{extra}]'"
    return f"pip install 'idgan[{extra}]'"
