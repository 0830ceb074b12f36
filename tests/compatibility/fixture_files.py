"""Copies of what v0.1 wrote, and what its code itself went on to.

fixtures/v0.1/ was written by the code of v0.1 (make_fixtures.sh there says how): data, runs that were interrupted, and
in after/ their ends. Nothing there is ever made again: it stands for what users have on disk.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load
from torch import Tensor

from tests.support import processes
from tests.support.training import finish

FIXTURES = Path(__file__).parent / "fixtures" / "v0.1"
STAGES = {"vae": "vae", "factor_vae": "vae", "idgan": "gan", "gan": "gan"}
"""By the name of a run, the trainer's command for it."""
MIDWAY = {"vae": 64, "factor_vae": 48, "idgan": 96, "gan": 40}
"""Images seen where it was interrupted."""
LAST = {"vae": 120, "factor_vae": 96, "idgan": 160, "gan": 64}
"""And where it is complete. ID-GAN's fade into 64 px ends between the two."""
TOLERANCE = 1e-9  # of float64, relative to the largest number of a tensor
FLOAT32 = 1e-5

Resume = Callable[[str], Path]


def content(path: Path) -> bytes:
    """Of a file of the fixtures, where the larger ones lie compressed."""
    packed = path.with_name(path.name + ".gz")
    return gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()


def unpack(place: Path, *parts: str) -> Path:
    """Copy folders of the fixtures; `place`."""
    for part in parts:
        for path in (p for p in (FIXTURES / part).rglob("*") if p.is_file()):
            name = path.relative_to(FIXTURES)
            name = name.with_suffix("") if name.suffix == ".gz" else name
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content(FIXTURES / name))
    return place


def unpack_run(place: Path, name: str) -> Path:
    """A run with all that its settings name; `place`, in which its commands run."""
    return unpack(place, "data", "settings", f"runs/{name}", *(["runs/vae"] if name == "idgan" else []))


def command(place: Path, name: str, *argv: object, code: int = 0) -> processes.Running:
    """`python -m NAME ARGV` in a folder, ended with this exit code: old settings name their paths relative to it."""
    args = (str(place), name, [str(a) for a in argv])
    return finish(processes.start(processes.module_in, args, place / "logs"), code)


def at(place: Path, name: str) -> Path:
    """The checkpoint that v0.1 left."""
    return place / "runs" / name / "checkpoints" / f"step-{MIDWAY[name]:012d}"


def read_manifest(step: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((step / "manifest.json").read_text())
    return found


def made_with(name: str) -> dict[str, Any]:
    """How the old code went on, and on what."""
    found: dict[str, Any] = json.loads(content(FIXTURES / "after" / f"{name}.json"))
    return found


def went_on_to(name: str) -> dict[str, Tensor]:
    """All tensors of the old code's last checkpoint."""
    return load(content(FIXTURES / "after" / f"{name}.safetensors"))


def apart(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = TOLERANCE) -> list[str]:
    """Names of the tensors that differ by more than a share of their largest number."""
    assert a.keys() == b.keys()
    assert {name: (t.dtype, t.shape) for name, t in a.items()} == {name: (t.dtype, t.shape) for name, t in b.items()}
    return [n for n in a if not float((a[n] - b[n]).abs().max()) <= tolerance * float(b[n].abs().max())]
