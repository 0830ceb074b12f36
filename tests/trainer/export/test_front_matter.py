"""A card begins with what the Hugging Face hub reads, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.export.front_matter import with_front_matter

SPRITES = ["dsprites", "disentanglement"]


def of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path("pretrained", name, "export.json").read_bytes())
    return content


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("dsprites-beta_vae", {"tags": ["beta-vae", *SPRITES]}),
        ("dsprites-idgan", {"pipeline_tag": "unconditional-image-generation", "tags": ["id-gan", *SPRITES]}),
    ],
)
def test_it_has_licence_library_task_and_tags(name: str, fields: dict[str, Any]) -> None:
    card = Path("pretrained", name, "README.md").read_text()
    empty, front, rest = with_front_matter(card, of(name)).split("---\n")
    assert not empty
    assert yaml.safe_load(front) == {"license": "mit", "library_name": "idgan"} | fields
    assert rest == "\n" + card


def test_a_card_that_has_one_keeps_it() -> None:
    card = "---\nlicense: cc-by-4.0\n---\n\n# mine\n"
    assert with_front_matter(card, of("dsprites-idgan")) == card


def test_weights_of_other_code_have_a_licence_of_their_own() -> None:
    metadata = of("dsprites-idgan")
    metadata["origin"]["imported"] = "model.pt"
    assert "license: other\n" in with_front_matter("# x\n", metadata)
