"""CelebA, aligned and cropped: img_align_celeba, 178x218 px (Liu et al., "Deep Learning Face Attributes in the
Wild", ICCV 2015), as a folder or a zip, with its label files where they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from data_shards.format.manifest import Label
from data_shards.sources.containers.image_store import Photo, by_file_name, images_of
from data_shards.sources.containers.stores import open_store
from data_shards.sources.published_counts import fewer

from .crop_and_resize import FixedBox, centre
from .label_files import ATTRIBUTES, IDENTITY, LANDMARKS, PARTITION, Kind, Table, find_tables, require_rows
from .photo_source import Photos, photos_hash

WIDTH, HEIGHT = 178, 218
CROPS = {
    "paper": centre(WIDTH, HEIGHT, 160),  # ID-GAN
    "square": centre(WIDTH, HEIGHT, 178),
    "centre-148": centre(WIDTH, HEIGHT, 148),  # what most VAE papers take
    "centre-108": centre(WIDTH, HEIGHT, 108),  # DCGAN
    "pggan": (25, 57, 153, 185),  # 128 px around (89, 121), PGGAN's and StyleGAN's
}
LABEL_FILES = (ATTRIBUTES, IDENTITY, PARTITION, LANDMARKS)


def celeba(src: Path, size: int, crop: str = "paper", labels: Path | None = None) -> Photos:
    """Open CelebA as a source. src: the images, or the folder that holds them and the label files.

    size: of the largest level, px. crop: a name in CROPS. labels: the folder of the label files, where it is another.
    Raises UserError where images or labels are missing.
    """
    images = _images(src)
    store = open_store(images)
    photos = by_file_name(images_of(store, images), images)
    tables = find_label_tables(src, labels, LABEL_FILES)
    names = [photo.name for photo in photos]
    photos, notes = add_labels(photos, tables, [names] * len(tables))
    recipe = {
        "source": "celeba",
        "crop": f"{crop}, box {CROPS[crop]} of {WIDTH}x{HEIGHT}",
        "filter": "lanczos",
        "size": size,
        "colour": "RGB",
        "label_files": label_file_hashes(tables),
    }
    return Photos(
        data_set="celeba",
        store=store,
        photos=tuple(photos),
        transform=FixedBox(size, "CelebA", (WIDTH, HEIGHT), CROPS[crop]),
        recipe=recipe,
        listing_sha256=photos_hash(store, photos),
        own_labels=table_labels(tables),
        notes=(*notes, *fewer("celeba", len(photos))),
    )


def _images(src: Path) -> Path:
    """The folder or zip of images, which may stand beside the label files or, as published, in Img/."""
    for folder in (src, src / "Img"):
        for name in ("img_align_celeba", "img_align_celeba.zip"):
            if (folder / name).exists():
                return folder / name
    return src


def find_label_tables(src: Path, labels: Path | None, kinds: Sequence[Kind]) -> list[Table]:
    """Read the label files in the named folder, or in or beside `src`, also in the published Anno/ and Eval/."""
    beside = [src, src.parent, *([src.parent.parent] if src.parent.name == "Img" else [])]
    places = [labels] if labels is not None else beside
    tables = find_tables([folder for place in places for folder in (place, place / "Anno", place / "Eval")], kinds)
    if labels is not None and not tables:
        names = ", ".join(f"{kind.stem}.txt" for kind in kinds)
        raise UserError(f"--labels is {labels}: holds none of {names} (or .csv); name the folder that does")
    return tables


def add_labels(
    photos: Sequence[Photo], tables: Sequence[Table], rows: Sequence[Sequence[str]]
) -> tuple[list[Photo], tuple[str, ...]]:
    """Return the photos with the labels of all tables, and notes on these.

    rows: of each table, the name of the row of each photo. Raises UserError where a photo has no row.
    """
    named = list(zip(tables, rows, strict=True))
    notes = [note for table, names in named for note in require_rows(table.path, names, list(table.rows))]
    if not tables:
        notes.append("no label files were found: the set has no labels")
    elif any(label.name == "lefteye_x" for table in tables for label in table.labels):
        notes.append(f"landmarks are px of the {WIDTH}x{HEIGHT} image, before the crop")
    labelled = [
        photo._replace(labels=tuple(value for table, names in named for value in table.rows[names[i]]))
        for i, photo in enumerate(photos)
    ]
    return labelled, tuple(notes)


def table_labels(tables: Sequence[Table]) -> tuple[Label, ...]:
    """Return the columns of all tables as labels."""
    return tuple(label for table in tables for label in table.labels)


def label_file_hashes(tables: Sequence[Table]) -> dict[str, Any]:
    """Return the names and hashes of label files, for the recipe: a set with other labels is another set."""
    return {table.path.name: hashlib.sha256(table.path.read_bytes()).hexdigest() for table in tables}
