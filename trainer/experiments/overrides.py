"""Overrides of an experiment's lists, which the trainer applies one after the other: the last one of a key counts.

A more special list may replace what a more general one sets. A variant's own values stay, for it is named for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

RESERVED = ("run", "seed", "data.path", "vae", "init_from")  # which the experiment sets itself


class OverrideList(NamedTuple):
    """A list of a file.

    place: its key there; of_variants: whether it is of a cell that exists for every variant; reserved: the keys that it
    may not set.
    """

    place: str
    overrides: Sequence[str]
    of_variants: bool
    reserved: Sequence[str] = RESERVED


def contradictions(lists: Sequence[OverrideList], variants: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield what is wrong with the lists of a file, those of its variants among them, with the key of each.

    variants: the overrides of each by its name.
    """
    for each in lists:
        for number, override in enumerate(each.overrides):
            yield from (f"{each.place}: {words}" for words in _reserved(override, each.reserved))
            before = [other for other in each.overrides[:number] if overlap(key_of(other), key_of(override))]
            if before:
                yield f"{each.place}: {override}: the same list sets it by {before[0]}; leave one of the two out"
            setting = _variants_that_set(key_of(override), variants) if each.of_variants else {}
            if setting:
                name, its = next(iter(setting.items()))
                more = f" and {len(setting) - 1} more" if len(setting) > 1 else ""
                yield (
                    f"{each.place}: {override}: would replace {its} of variants.{name}.overrides{more}, which the "
                    "variant is named for; leave it out here, or there"
                )


def key_of(override: str) -> str:
    """Return the key of key.path=value."""
    return override.partition("=")[0]


def overlap(one: str, other: str) -> bool:
    """Return whether two keys are the same, or one is a part of the other, as data.variant is of data."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _reserved(override: str, reserved: Sequence[str]) -> Iterator[str]:
    own = key_of(override)
    for key in reserved:
        if overlap(own, key):
            remedy = f"write {own}.KEY=VALUE for others of it" if key.startswith(f"{own}.") else "leave it out"
            yield f"{override}: the experiment sets {key} itself; {remedy}"


def _variants_that_set(key: str, variants: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the override of each variant that sets a key, by the variant's name."""
    found: dict[str, str] = {}
    for name, overrides in variants.items():
        for override in overrides:
            if overlap(key_of(override), key):
                found.setdefault(name, override)
    return found
