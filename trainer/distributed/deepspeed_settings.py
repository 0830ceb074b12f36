"""The settings of DeepSpeed's engines: deepspeed/zeroN.json in this folder, which are installed with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "deepspeed"


def path(zero_stage: int) -> Path:
    """Return the file of a ZeRO stage, 1 to 3."""
    return FOLDER / f"zero{zero_stage}.json"


def read(zero_stage: int) -> dict[str, Any]:
    """Return the settings of a ZeRO stage, 1 to 3."""
    settings: dict[str, Any] = json.loads(path(zero_stage).read_bytes())
    return settings
