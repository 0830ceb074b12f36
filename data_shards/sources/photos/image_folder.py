"""Any images, in sub-folders (= class names) or not: centre crop to a square, Lanczos to the largest level."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from data_shards.format.left_out import printable
from data_shards.format.manifest import Label
from data_shards.sources.containers.folder_and_zip import open_store
from data_shards.sources.containers.image_store import images_of

from .crop_and_resize import LargestSquare
from .photo_source import Photos, photos_hash


def folder(src: Path, size: int) -> Photos:
    """Open all images in the folder or zip `src` as a source, for a largest level of `size` px.

    Where they are in several folders, each gets the label `class`, the number of its folder by name.
    """
    store = open_store(src)
    photos = images_of(store, src)
    parents = [PurePosixPath(photo.path).parent.as_posix() for photo in photos]
    classes = sorted(set(parents))
    labels: tuple[Label, ...] = ()
    if len(classes) > 1:
        number = {name: i for i, name in enumerate(classes)}
        photos = [p._replace(labels=(number[parent],)) for p, parent in zip(photos, parents, strict=True)]
        labels = (Label(name="class", classes=tuple(map(printable, classes))),)
    recipe = {"source": "folder", "crop": "centre square", "filter": "lanczos", "size": size, "colour": "RGB"}
    listing = photos_hash(store, photos)
    return Photos("folder", store, tuple(photos), LargestSquare(size), recipe, listing, labels)
