"""What decides the bytes of a set: the source, the settings of `make` and the versions of the tools."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from data_shards.format.image_codec import tool_versions
from data_shards.format.manifest import Codec
from data_shards.sources.base import Source

_SHARD_BYTES = 128 * 2**20  # of the largest level, roughly


@dataclass(frozen=True)
class Settings:
    """The settings of `make` that decide bytes. levels: resolutions in px, powers of two, the largest first."""

    levels: tuple[int, ...]
    codec: Codec
    samples_per_shard: int


def default_samples_per_shard(resolution: int, channels: int, at_most: int = 4096) -> int:
    """Return how many samples make about 128 MB at the largest level (resolution in px), and no more than `at_most`."""
    return min(at_most, max(1, _SHARD_BYTES // (resolution**2 * channels // 2 + 2048)))


def recipe_of(source: Source, settings: Settings) -> dict[str, Any]:
    """Return JSON values that decide every byte, given the source's listing and the versions of the tools."""
    return source.recipe | {
        "levels": list(settings.levels),
        "pyramid": "box mean of the largest level, rounded once, half up",
        "codec": settings.codec.model_dump(),
        "samples_per_shard": settings.samples_per_shard,
    }


def hash_recipe(recipe: dict[str, Any], source: Source) -> str:
    """Return a sha256 over recipe, source files and tools: a finished shard with another one is written again."""
    text = json.dumps([recipe, source.listing_sha256, tool_versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
