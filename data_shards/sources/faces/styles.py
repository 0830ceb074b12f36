"""Styles of drawn faces: DiceBear's definitions with their licences, and the factors that each can vary."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from typing import Any

from common import shipped
from common.errors import UserError

from .factors import ABSENT, ColourClass, Continuous, FaceFactor, Hue, Palette, Part

DEFAULT = "toon-head"
PACKAGES = ("dicebear-core", "dicebear-styles", "resvg-py")
_LICENCES = ("CC0 1.0", "CC BY 4.0", "MIT")
_OF_A_FACE = {"eyes", "mouth", "expression"}  # components: a style without any of them draws something else
_MOVES = {"rotate", "translate", "scale"}  # keys of components whose place DiceBear draws at random
_UNSEEN = "animation"  # a component that shows in no still picture

# Narrow enough that the head stays in the picture, and that clothes reach its lower edge.
POSE = (
    Continuous("x", "translateX", -8, 8),  # per cent of the picture, to the right
    Continuous("y", "translateY", 0, 6),  # per cent, downwards
    Continuous("rotation", "rotate", -8, 8),  # degrees, clockwise
    Continuous("scale", "scale", 0.85, 0.95),
)
BACKGROUND = Hue("background_hue", "backgroundColor", 0, 1, True, 0.35, 0.95)

# Without `dress`, which ends at the picture's lower edge, so that a turned or smaller body shows a patch below it; and
# without `sad`, a mouth like `smile` at 64 px.
TOON_HEAD = (
    Part("hair", "hair", ("bun", "sideComed", "spiky", "undercut")),
    Part("rear_hair", "rearHair", (ABSENT, "longStraight", "longWavy", "neckHigh", "shoulderHigh")),
    Part("eyes", "eyes", ("bow", "happy", "humble", "wide", "wink")),
    Part("eyebrows", "eyebrows", ("angry", "happy", "neutral", "raised", "sad")),
    Part("mouth", "mouth", ("agape", "angry", "laugh", "smile")),
    Part("beard", "beard", (ABSENT, "chin", "chinMoustache", "fullBeard", "longBeard", "moustacheTwirl")),
    Part("clothes", "clothes", ("openJacket", "shirt", "tShirt", "turtleNeck")),
    Palette("skin", "skinColor", 0, 1, False, ("#5c3829", "#b07d62", "#f8d5b8")),
    Palette("hair_color", "hairColor", 0, 1, False, ("#16100d", "#82260c", "#f4c542")),
    Hue("clothes_hue", "clothesColor", 0, 1, True, 0.8, 0.8),
    BACKGROUND,
    *POSE,
)


@dataclass(frozen=True)
class FaceStyle:
    """A style that faces are drawn in.

    name: of DiceBear's definition; definition: its JSON text; factors: in the order of the manifest.
    """

    name: str
    definition: str
    factors: tuple[FaceFactor, ...]

    @property
    def attribution(self) -> str:
        """Who drew the style, where it is published, and under which licence. Sets and models must carry it."""
        licence = json.loads(self.definition)["meta"]["license"]
        return "style of the faces: " + re.sub("[„“”]", '"', licence["text"])

    @property
    def recipe(self) -> dict[str, Any]:
        """JSON values that decide every picture: the style, its factors, and the versions of what draws it."""
        versions = {package: metadata.version(package) for package in PACKAGES}
        digest = hashlib.sha256(self.definition.encode()).hexdigest()
        drawn = json.loads(json.dumps([asdict(factor) for factor in self.factors]))
        return {"style": self.name, "definition": digest, **versions, "drawn": drawn}


def open_style(name: str = DEFAULT) -> FaceStyle:
    """Open a style of DiceBear's by name.

    Raises UserError where a package is missing, there is no such style, or it cannot be used (see `usable_styles`).
    """
    definitions = _definitions()
    if name not in definitions:
        raise UserError(f"--style is {name}: there is no such style; choose from {', '.join(usable_styles())}")
    content = json.loads(definitions[name])
    obstacle = _obstacle(content)
    if obstacle:
        raise UserError(f"--style is {name}: {obstacle}; choose from {', '.join(usable_styles())}")
    return FaceStyle(name, definitions[name], TOON_HEAD if name == DEFAULT else _all_factors(content))


def open_style_of(recipe: dict[str, Any]) -> FaceStyle:
    """Open the style that a set was drawn in. recipe: of its manifest.

    Raises UserError as `open_style` does, and where what is installed would draw other pictures.
    """
    style = open_style(recipe["style"])
    changed = [
        f"{key} {recipe.get(key)} then, {now} now" for key, now in style.recipe.items() if recipe.get(key) != now
    ]
    if changed:
        raise UserError(
            f"faces of the style {style.name} were drawn by other versions ({'; '.join(changed)}); install those, or "
            "make the set again in another folder"
        )
    return style


def usable_styles() -> list[str]:
    """Return the names of the styles that draw faces, have a free licence, and are decided by parts and colours."""
    return [name for name, text in _definitions().items() if not _obstacle(json.loads(text))]


def _definitions() -> dict[str, str]:
    """The JSON texts of DiceBear's definitions by name. Raises UserError where a package is missing."""
    for package in PACKAGES:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            raise UserError(
                f"faces are drawn by the package {package}, which is not installed; {shipped.installing('faces')}"
            ) from None
    files = [file for file in resources.files("dicebear_styles").iterdir() if file.name.endswith(".json")]
    texts = {file.name.removesuffix(".json"): file.read_text(encoding="utf-8") for file in files}
    return dict(sorted(texts.items()))


def _obstacle(definition: dict[str, Any]) -> str | None:
    """Why a style cannot be used; None where it can."""
    licence = definition["meta"]["license"]["name"]
    if licence not in _LICENCES:
        return f'its licence is "{licence}", none of {", ".join(_LICENCES)}'
    components = definition.get("components", {})
    if not _OF_A_FACE & components.keys():
        return "it draws no faces"
    exclusive = [colour for colour, what in definition.get("colors", {}).items() if what.get("notEqualTo")]
    if exclusive:
        return f"colours exclude each other ({', '.join(exclusive)}), so that they are no independent factors"
    moved = [component for component, what in components.items() if _MOVES & what.keys()]
    if moved:
        return f"parts are moved at random ({', '.join(moved)}), so that factors do not decide the picture"
    return None


def _all_factors(definition: dict[str, Any]) -> tuple[FaceFactor, ...]:
    """The factors of a style without a table here: all variants of its parts, its own colours, background and pose."""
    parts = [
        Part(_snake(component), component, _variants(what))
        for component, what in definition.get("components", {}).items()
        if component != _UNSEEN and len(_variants(what)) > 1
    ]
    colours = [
        ColourClass(f"{_snake(colour)}_color", colour, tuple(what["values"]))
        for colour, what in definition.get("colors", {}).items()
        if colour != "background" and len(what["values"]) > 1
    ]
    return (*parts, *colours, BACKGROUND, *POSE)


def _variants(component: dict[str, Any]) -> tuple[str, ...]:
    """The variants of a component, and ABSENT where a face may lack it."""
    absent = (ABSENT,) if component.get("probability", 100) < 100 else ()
    return (*absent, *sorted(component.get("variants", {})))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
