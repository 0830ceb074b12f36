"""The names of the dSprites variants. They stand apart from the drawing, which imports torch."""

from __future__ import annotations

from typing import Literal

Variant = Literal["plain", "color", "noisy", "scream"]
