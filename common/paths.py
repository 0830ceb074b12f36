"""Paths and URLs that a user types: in a config, as an override, on the command line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pydantic_core import core_schema

_VARIABLE = re.compile(r"\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[^}]*)\})", re.ASCII)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Url(str):
    """The URL of a folder or file, such as s3://bucket/set: `url / name` is below it, as with a Path."""

    __slots__ = ()

    def __truediv__(self, name: str) -> Url:
        return self if name == "." else Url(f"{self.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.rstrip("/").rpartition("/")[2]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.is_instance_schema(cls, serialization=core_schema.to_string_ser_schema())


Location = Path | Url
"""Where a set of shards lies: a folder, or the URL of one."""


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


def typed_location(text: str) -> Location:
    """Return the folder or URL that a text names, with variables expanded; see `typed`.

    Raises ValueError as that does, and for a URL that holds a password or a query, which every copy of a config would
    give away.
    """
    if not _URL.match(text.strip()):
        return typed(text)
    url = expanded(text.strip()).rstrip("/")
    authority = url.partition("://")[2].partition("/")[0]
    if "@" in authority or "?" in url or "#" in url:
        raise ValueError(
            "the URL holds a user, a query or a fragment; name the plain URL of the folder, and give credentials in "
            "the environment or in the files of the store's own tools"
        )
    return Url(url)


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
