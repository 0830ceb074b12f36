"""The first lines of a model card, in YAML, which the Hugging Face hub reads: licence, library, task and tags."""

from __future__ import annotations

import re
from typing import Any

import yaml

FENCE = "---\n"


def with_front_matter(card: str, metadata: dict[str, Any]) -> str:
    """Return a card that begins with what the hub reads; one that does already as it is.

    metadata: the content of export.json.
    """
    if card.startswith(FENCE):
        return card
    return FENCE + yaml.safe_dump(_fields(metadata), sort_keys=False) + FENCE + "\n" + card


def _fields(metadata: dict[str, Any]) -> dict[str, Any]:
    origin = metadata["origin"]
    fields = {"license": "other" if "imported" in origin else "mit", "library_name": "idgan"}
    if metadata["network"]:
        fields["pipeline_tag"] = "unconditional-image-generation"
    tags = [_tag(name) for name in (origin["system"], origin.get("data_set")) if name]
    return fields | {"tags": [*tags, *(["disentanglement"] if metadata["c_dim"] else [])]}


def _tag(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
