"""The settings of DeepSpeed's engines: deepspeed/zeroN.json in this folder, which are installed with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.config.sections import Strategy

FOLDER = Path(__file__).parent / "deepspeed"


def path(strategy: Strategy) -> Path:
    """Return the file of a strategy, zero1 to zero3."""
    return FOLDER / f"{strategy}.json"


def read(strategy: Strategy) -> dict[str, Any]:
    """Return the settings of a strategy, zero1 to zero3."""
    settings: dict[str, Any] = json.loads(path(strategy).read_bytes())
    return settings
