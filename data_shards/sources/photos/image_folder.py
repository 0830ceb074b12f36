"""Any images, in a folder, a zip, tars or parquet files: centre crop to a square, Lanczos to the largest level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.errors import UserError
from data_shards.format import manifest
from data_shards.sources.base import listing_hash
from data_shards.sources.containers.folder_and_zip import FolderStore
from data_shards.sources.containers.image_store import Store, images_of
from data_shards.sources.containers.parquet import ParquetStore, open_parquet, parquet_files
from data_shards.sources.containers.stores import open_store, open_tars, refuse_larger_archives
from data_shards.sources.containers.tar_store import TarStore

from .crop_and_resize import LargestSquare
from .folder_labels import label_photos
from .photo_source import Photos, photos_hash


def folder(src: Path, size: int, image: str | None = None, enlarge: bool = False) -> Photos:
    """Open all images in `src` as a source, for a largest level of `size` px; `label_photos` says what labels they get.

    src: a folder, zip or tar of images, a parquet file, or a folder of tars or parquet files without other images.
    image: the column of the images, where parquet files have several; the extension of the images, where samples of
    tars do. enlarge: store images below `size` enlarged. Raises UserError where there are no images.
    """
    store = _open(src, image)
    labelled = label_photos(store, images_of(store, src))
    recipe: dict[str, Any] = {
        "source": "folder",
        "crop": "centre square",
        "filter": "lanczos",
        "size": size,
        "colour": "RGB",
    } | ({"label_files": dict(labelled.files)} if labelled.files else {})
    if enlarge:
        recipe[manifest.ENLARGE] = "bilinear where a level is larger than the image"
    if isinstance(store, ParquetStore | TarStore):
        recipe["labels"] = listing_hash(f"{photo.name}\t{photo.labels}" for photo in labelled.photos)
    return Photos(
        data_set="folder",
        store=store,
        photos=tuple(labelled.photos),
        transform=LargestSquare(size, enlarge),
        recipe=recipe,
        listing_sha256=photos_hash(store, labelled.photos),
        own_labels=labelled.labels,
        notes=labelled.notes,
    )


def _open(src: Path, image: str | None) -> Store:
    """Open the container that is there. Tars and parquet files beside images are no images, nor parquet beside tars.

    Raises UserError where the archives in a folder of images hold more of them.
    """
    store: Store
    if src.is_file() and src.suffix == ".parquet":
        return open_parquet([src], image)
    store = open_store(src, image)
    if isinstance(store, FolderStore) and not store.photos():
        tables = parquet_files(src)
        store = open_tars(src, image) or (open_parquet(tables, image) if tables else store)
    elif isinstance(store, FolderStore):
        refuse_larger_archives(store)
    if image is not None and not isinstance(store, ParquetStore | TarStore):
        raise UserError(f"--image is {image}: {src} holds neither parquet files nor tars; leave it out")
    return store
