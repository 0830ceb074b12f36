"""3D Chairs, rendered_chairs/MODEL/renders/image_NNN_pPPP_tTTT_rRRR.png, 600x600 px (Aubry et al., "Seeing 3D
Chairs", CVPR 2014): 1,393 models x 62 views."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from data_shards.format.manifest import Label
from data_shards.sources.containers.image_store import Photo, images_of
from data_shards.sources.containers.stores import open_store
from data_shards.sources.published_counts import fewer

from .crop_and_resize import FixedBox, centre
from .photo_source import Photos, photos_hash

SIDE, CROP = 600, 450
# p is the camera's elevation, t its azimuth, r its distance; all but the first two are the same for each model.
_NAME = re.compile(r"image_\d+_p(\d+)_t(\d+)_r\d+\.png")


def chairs(src: Path, size: int) -> Photos:
    """Open the renders below the folder or zip `src` as a source: rendered_chairs, or the folder that holds it.

    size: of the largest level, px. Raises UserError where there are none.
    """
    store = open_store(src)
    unsorted = images_of(store, src)
    models = [_model(photo) for photo in unsorted]
    classes = sorted(set(models))
    number = {model: i for i, model in enumerate(classes)}
    labelled = (_labelled(photo, model, number[model]) for photo, model in zip(unsorted, models, strict=True))
    photos = sorted(labelled, key=lambda photo: photo.name)
    recipe = {
        "source": "chairs",
        "crop": f"centre {CROP} of {SIDE}x{SIDE}",
        "filter": "lanczos",
        "size": size,
        "colour": "RGB",
    }
    return Photos(
        data_set="chairs",
        store=store,
        photos=tuple(photos),
        transform=FixedBox(size, "3D Chairs", (SIDE, SIDE), centre(SIDE, SIDE, CROP)),
        recipe=recipe,
        listing_sha256=photos_hash(store, photos),
        own_labels=(Label(name="model", classes=tuple(classes)), Label(name="azimuth"), Label(name="elevation")),
        notes=("azimuth and elevation are degrees", *fewer("chairs", len(photos))),
    )


def _model(photo: Photo) -> str:
    """The folder above renders/, or above the image where there is no renders/."""
    parts = PurePosixPath(photo.path).parent.parts
    if parts and parts[-1] == "renders":
        parts = parts[:-1]
    return parts[-1] if parts else "."


def _labelled(photo: Photo, model: str, number: int) -> Photo:
    """The photo with its name and its labels. number: of the model. A name that does not fit is a fault."""
    file = PurePosixPath(photo.path).name
    view = _NAME.fullmatch(file)
    if view is None:
        fault = "is not named image_NNN_pPPP_tTTT_rRRR.png", "give it its published name, or remove it"
        return photo._replace(name=f"{model}/{file}", fault=fault)
    elevation, azimuth = (int(word) for word in view.groups())
    return photo._replace(name=f"{model}/{file}", labels=(number, azimuth, elevation))
