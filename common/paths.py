"""Paths that a user types: in a config, as an override, on the command line."""

from __future__ import annotations

import os
import re
from pathlib import Path

_VARIABLE = re.compile(r"\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[^}]*)\})", re.ASCII)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def typed(text: str) -> Path:
    """Return the path that a text names, with `$VAR`, `${VAR}`, `~` and `~user` expanded.

    Where there is a file or folder of exactly this name, `$` or `~` and all, it is that one. Raises ValueError, whose
    message says what to do, for a variable that is not set, an unknown user, and a URL.
    """
    text = text.strip()
    if not text:
        raise ValueError("it is empty (a variable that is not set?); name a path")
    if _URL.match(text):
        raise ValueError("it is a URL, and a path is needed; copy what is there to a disk, and name the copy")
    return Path(text if os.path.exists(text) else expanded(text))


def expanded(text: str) -> str:
    """Return a text with `$VAR` and `${VAR}`, and at its start `~` and `~user`, expanded. Raises as `typed` does."""
    path = os.path.expanduser(_VARIABLE.sub(_value, text))
    if path.startswith("~"):
        user = path.partition("/")[0]
        if user == "~":
            raise ValueError("HOME is not set, and this user has no home folder; write the path out")
        raise ValueError(f"there is no user {user[1:]} here; write ./{user} for a name that begins with ~")
    return path


def _value(match: re.Match[str]) -> str:
    """Return the value of a variable. Raises ValueError where it is not set, or empty."""
    name = match["plain"] or match["braced"] or ""
    value = os.environ.get(name)
    if not value:
        state = "not set" if value is None else "empty"
        raise ValueError(f"the environment variable {name} is {state}; export it, or write the path out")
    return value
