"""manifest.json: what a folder of shards holds. It is written last, so a folder with a manifest is complete."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from common.errors import UserError
from common.paths import Location, Url
from data_shards.remote.requests import read

SCHEMA_VERSION = 1
FILE = "manifest.json"
UNFINISHED = ".parts"  # the folder that `make` keeps beside the levels until the set is complete
CODE_RESOLUTION = 64  # px: the resolution at which the code c is defined
ENLARGE = "enlarge"  # the key of a recipe that stores images below the largest level enlarged
ImageFormat = Literal["png", "webp", "jpeg"]
DRAWN = ("dsprites", "faces", "stacked")  # families of sets that `make` draws
DRAWN_AT = tuple(2**power for power in range(6, 13))  # px, of sets that are drawn at the size of their largest level
_NOT_OF_THE_DRAWING = ("codec", "levels", "pyramid", "samples_per_shard")  # of a recipe
_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"  # a plain file name: a manifest from elsewhere cannot point outside


def is_name(text: str) -> bool:
    """Return whether a manifest may name such a file."""
    return re.match(_NAME, text) is not None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Codec(_Part):
    """How images are stored."""

    name: ImageFormat = Field("png", description="png and webp are lossless, jpeg is not")
    quality: int | None = Field(None, ge=1, le=100, description="of jpeg; null for the lossless ones")

    @property
    def extension(self) -> str:
        """Return the extension of its files, without the dot."""
        return "jpg" if self.name == "jpeg" else self.name

    @property
    def lossless(self) -> bool:
        """True where decoding gives the very pixels that were encoded."""
        return self.name != "jpeg"


class Shard(_Part):
    """One tar of one level."""

    name: str = Field(pattern=_NAME, description="file name in the level's folder")
    samples: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str


class LevelInfo(_Part):
    """One complete WebDataset at one resolution."""

    folder: str = Field(pattern=r"^(\.|[0-9]+)$", description="below the manifest's folder")
    index: str = Field(pattern=_NAME, description="file name of the index, in the same folder")
    index_sha256: str
    shards: tuple[Shard, ...]


class Factor(_Part):
    """A known factor of variation: classes 0 to size - 1.

    A continuous one has a range, and its classes are equal parts of it. The keys that only some factors have are left
    out of the file where they say nothing.
    """

    name: str
    size: int
    values: tuple[str, ...] | None = Field(None, description="names of the classes, where they have names")
    range: tuple[float, float] | None = Field(None, description="of a continuous factor: its lowest and highest value")
    circular: bool = Field(False, description="the ends of the range are the same value")

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, full: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = full(self)
        return {key: value for key, value in content.items() if value not in (None, False) or key == "size"}


class Label(_Part):
    """An integer per sample; `classes` names its values where they have names. With classes, -1 is none of them."""

    name: str
    classes: tuple[str, ...] | None = None


class Skipped(_Part):
    """A source file that was left out."""

    file: str
    rule: str


class Manifest(_Part):
    """What manifest.json says: all that a reader needs to know before it opens a tar."""

    schema_version: int
    data_set: str
    recipe: dict[str, Any] = Field(description="what made the images; the same recipe gives the same bytes")
    source_sha256: str = Field(description="hash of the source listing (names and contents)")
    channels: int
    count: int = Field(ge=1, description="samples, the same at every level")
    codec: Codec | None = Field(description="null for tars that another tool wrote")
    levels: dict[int, LevelInfo]
    factors: tuple[Factor, ...] = ()
    labels: tuple[Label, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    tools: dict[str, str] = Field(default_factory=dict)
    _hash: str = PrivateAttr("")

    @property
    def hash(self) -> str:
        """The sha256 of the file's bytes: two sets with the same hash hold the same images in the same order."""
        return self._hash

    @property
    def drawn_by(self) -> str | None:
        """Identity of what draws a built-in set: a hash that sets of other counts, seeds and levels share; else None.

        It changes with the style of faces, its version, and the factors that vary.
        """
        return self._drawn_by({})

    def is_drawn_as(self, identity: str) -> bool:
        """Return whether `identity` is `drawn_by` of this set or of one that is drawn alike at another size."""
        sizes = [{}, *({"drawn_at": size} for size in DRAWN_AT)] if "drawn_at" in self.recipe else [{}]
        return any(self._drawn_by(size) == identity for size in sizes)

    def _drawn_by(self, changes: dict[str, int]) -> str | None:
        """Return `drawn_by` of a recipe with some values changed."""
        if self.data_set.partition("-")[0] not in DRAWN:
            return None
        recipe = self.recipe | changes
        how = {name: value for name, value in recipe.items() if name not in _NOT_OF_THE_DRAWING}
        factors = [factor.model_dump() for factor in self.factors]
        drawn = {"data_set": self.data_set, "channels": self.channels, "recipe": how, "factors": factors}
        return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()

    @property
    def enlarged(self) -> bool:
        """True where levels may be enlargements of smaller images, and lower levels those images themselves."""
        return ENLARGE in self.recipe

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions of the levels in px, the largest first."""
        return tuple(sorted(self.levels, reverse=True))

    def level(self, resolution: int) -> LevelInfo:
        """Return the level of a resolution. Raises UserError, which lists the stored ones, where it is not there."""
        if resolution not in self.levels:
            stored = ", ".join(map(str, self.resolutions))
            raise UserError(f"resolution {resolution} is not stored (there are: {stored}); make the set again with it")
        return self.levels[resolution]


def how_to_add(manifest: Manifest, folder: Location, resolutions: Collection[int]) -> str:
    """Return what to do so that the set in `folder` has these resolutions (px) too."""
    wanted = {*resolutions, *manifest.resolutions}
    every = ",".join(map(str, sorted(wanted, reverse=True)))
    larger = max(wanted) > manifest.resolutions[0]
    source = manifest.recipe.get("source")
    if source == "tars" or (source == "celeba_hq" and larger):
        enlarge = " --enlarge" if larger else ""
        command = (
            f"python -m data_shards make folder {shlex.quote(str(folder))} --out NEW --resolutions {every}{enlarge}"
        )
        return f"make a new set of its images: `{command}`"
    may_be_small = f", and --enlarge where images are below {max(wanted)} px" if larger and source == "folder" else ""
    return f"make the set again with --resolutions {every}{may_be_small}"


def making_command(manifest: Manifest, folder: Location) -> str | None:
    """Return the command that makes a set of a built-in kind again; None for sets whose images come from elsewhere."""
    maker, _, style = manifest.data_set.partition("-")
    if maker not in DRAWN:
        return None
    sizes = ",".join(map(str, manifest.resolutions))
    command = ["python", "-m", "data_shards", "make", maker, "--out", str(folder)]
    command += ["--count", str(manifest.count), "--resolutions", sizes]
    return shlex.join([*command, "--style", style] if style else command)


def to_bytes(manifest: Manifest) -> bytes:
    """Return the bytes of manifest.json. They hold no times and no paths, so equal sets have equal manifests."""
    return (json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def load(folder: Location) -> Manifest:
    """Read DIR/manifest.json of a folder or URL.

    Raises UserError where it is missing, damaged or of another schema version, or cannot be read.
    """
    path = folder / FILE
    try:
        data = read(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(_missing(folder)) from None
    return _parsed(data, path, f"{how_to_index(folder)} or make the set again")


def changed(folder: Location, stored: Manifest) -> str | None:
    """Say that a set is another one than when its manifest was read; None where it is the same, or cannot be read."""
    try:
        digest = hashlib.sha256(read(folder / FILE)).hexdigest()
    except (OSError, UserError):
        return None
    if digest == stored.hash:
        return None
    return (
        f"{folder / FILE}: has changed since this command began to read the set (its sha256 was {stored.hash}, now "
        f"{digest}); put the set of before back, and run the same command again, or begin a new run"
    )


def how_to_index(folder: Location) -> str:
    """Return what to do where an index or a manifest does not fit its tars."""
    if isinstance(folder, Url):
        return f"copy a whole, sound set to {folder} again"
    return f"run `python -m data_shards index {folder}`"


def _parsed(data: bytes, path: Location, again: str) -> Manifest:
    """Read the bytes of a manifest. again: the remedy where it is none."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); {again}") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema_version is {version!r}, this program reads {SCHEMA_VERSION}; {again}, "
            "or use the version of idgan that wrote it"
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {key} is {first['input']!r}: {first['msg']}; {again}") from None
    if not manifest.levels:
        raise UserError(f"{path}: levels is empty; {again}")
    manifest._hash = hashlib.sha256(data).hexdigest()
    return manifest


def _missing(folder: Location) -> str:
    """The message for a folder or a URL without a manifest."""
    if isinstance(folder, Url):
        return f"{folder / FILE}: not found; correct the URL, or copy a whole set of `python -m data_shards make` there"
    if not folder.is_dir():
        return (
            f"{folder}: no such folder{nowhere(folder)}; make it with `python -m data_shards make folder SRC --out "
            f"{folder}` (or `make dsprites --out {folder}`; `python -m data_shards make --help` lists all kinds)"
        )
    if (folder / UNFINISHED).is_dir():
        return f"{folder / FILE}: missing, the set is unfinished; run the `make` command that began it again"
    return (
        f"{folder / FILE}: missing; for a folder of tars run `python -m data_shards index {folder}`, "
        f"else make a set with `python -m data_shards make`"
    )


def nowhere(path: Path) -> str:
    """Return what to say after "no such folder": the working directory, where the path is relative to it."""
    return "" if path.is_absolute() else f" in {Path.cwd()}"
