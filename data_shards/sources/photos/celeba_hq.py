"""CelebA-HQ, 1024 px (Karras et al., "Progressive Growing of GANs", ICLR 2018, appendix C), however it is kept: a
folder, a zip, the TFRecords of that paper's code, or the parquet files of Hugging Face. It is taken as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from common.errors import UserError
from data_shards.format.litter import litter
from data_shards.format.manifest import Label
from data_shards.format.tars import sha256
from data_shards.sources.containers.folder_and_zip import open_store
from data_shards.sources.containers.image_store import Fault, Photo, Store, by_file_name, images_of
from data_shards.sources.containers.parquet import ParquetStore, open_parquet, parquet_files
from data_shards.sources.containers.tfrecords import RecordStore, largest_records

from .celeba import add_labels, find_label_tables, label_file_hashes, table_labels
from .crop_and_resize import IDENTICAL, AsIs, number_in
from .label_files import ATTRIBUTES, IDENTITY, PARTITION, ListedImage, Table, read_image_list
from .photo_source import Photos, photos_hash

SIDE, COUNT = 1024, 30_000
_LABEL_FILES = (ATTRIBUTES, IDENTITY, PARTITION)  # the landmarks are about other pixels


def celeba_hq(src: Path, size: int, image_list: Path | None = None, labels: Path | None = None) -> Photos:
    """Open CelebA-HQ in any of its layouts as a source; a smaller `size` (px) takes exact box means of the images.

    image_list: the published image_list.txt, to verify pixels with. labels: a folder with CelebA's label files, whose
    rows the list's column orig_file names. Raises UserError where files are missing or do not belong together.
    """
    if labels is not None and image_list is None:
        raise UserError("--labels needs --image-list: only image_list.txt says which CelebA image each one was")
    listed = read_image_list(image_list) if image_list is not None else []
    store = _store(src)
    photos = _sorted(store, src)
    side = _side(store, photos, src, size)
    tables: list[Table] = []
    notes: tuple[str, ...] = ()
    first = None
    if labels is not None:
        tables = find_label_tables(src, labels, _LABEL_FILES)
        _refuse_rows_without_paths(store, photos, src)
        first = _first_number(photos, listed, src)
        photos, notes = add_labels(photos, _orig_files(photos, listed, src, first), tables)
    recipe: dict[str, Any] = {
        "source": "celeba_hq",
        "crop": "none",
        "filter": "none" if side == size else f"box mean of {side} px, rounded once, half up",
        "size": size,
        "colour": "RGB",
        "label_files": label_file_hashes(tables),
        "image_list": sha256(image_list) if image_list is not None else None,
    }
    return Photos(
        data_set="celeba_hq",
        store=store,
        photos=tuple(photos),
        transform=AsIs(size, "CelebA-HQ", side, image_list, first),
        recipe=recipe,
        listing_sha256=photos_hash(store, photos),
        own_labels=table_labels(tables),
        measured_labels=(Label(name=IDENTICAL, classes=("no", "yes")),) if image_list is not None else (),
        notes=(*notes, *_unlike_the_published(store, len(photos), side)),
    )


def _refuse_rows_without_paths(store: Store, photos: Sequence[Photo], src: Path) -> None:
    """Parquet rows without a stored path have no number, by which labels are found."""
    if isinstance(store, ParquetStore) and not all(PurePosixPath(photo.name).suffix for photo in photos):
        raise UserError(f"{src}: its rows have no paths, so nothing says which image each one is; leave --labels out")


def _unlike_the_published(store: Store, count: int, side: int) -> list[str]:
    """Notes on how this copy differs from the published data set."""
    notes = []
    if side != SIDE:
        notes.append(f"the images are {side} px, the published ones {SIDE} px")
    if isinstance(store, RecordStore) and count != COUNT:
        notes.append(f"{count:,} records, not {COUNT:,}: the names hold if all were exported at once")
    return notes


def _store(src: Path) -> Store:
    """Open the layout that is there; two at once are refused."""
    if src.suffix == ".tfrecords":
        return RecordStore(src)
    if src.suffix == ".parquet":
        return open_parquet([src])
    if not src.is_dir():
        return open_store(src)
    records = sorted(path for path in src.glob("*.tfrecords") if litter(path.name) is None)
    tables = parquet_files(src)
    if records and tables:
        raise UserError(f"{src}: holds {records[0].name} and {tables[0].name}; name the one to read")
    if records:
        return RecordStore(largest_records(records))
    return open_parquet(tables) if tables else open_store(src)


def _sorted(store: Store, src: Path) -> list[Photo]:
    """Sort by image number, which not every copy pads with zeros. Parquet keeps its order, to be read in one sweep."""
    photos = images_of(store, src)
    if isinstance(store, ParquetStore):
        return photos
    return sorted(by_file_name(photos, src), key=lambda photo: (number_in(photo.name), photo.name))


def _side(store: Store, photos: Sequence[Photo], src: Path, size: int) -> int:
    """Side of the whole images in px, by the first one: a power of two, at least `size`.

    The scan reports images that differ from it.
    """
    try:
        width, height = store.open(store.read(photos[0])).size
    except (Fault, OSError, ValueError, SyntaxError):
        return SIDE
    if width != height or width & (width - 1):
        return SIDE
    if width < size:
        raise UserError(f"--resolutions has {size}, the images of {src} are {width} px; choose at most {width}")
    return width


def _first_number(photos: Sequence[Photo], listed: Sequence[ListedImage], src: Path) -> int:
    """The number that names begin with: copies count from 0, as the list does, or from 1."""
    numbers, last = {number_in(photo.name) for photo in photos}, max(row.number for row in listed)
    first = 0 if 0 in numbers else 1 if last + 1 in numbers else None
    if first is None:
        raise UserError(
            f"{src}: no image is number 0 or {last + 1}, so nothing says whether they count from 0 or 1; "
            "leave --labels out, or use a complete copy"
        )
    return first


def _orig_files(photos: Sequence[Photo], listed: Sequence[ListedImage], src: Path, first: int) -> list[str]:
    """File name of the CelebA image that each one was made from."""
    numbers = [number_in(photo.name) for photo in photos]
    files = {row.number: row.orig_file for row in listed}
    lost = [p.name for p, number in zip(photos, numbers, strict=True) if number - first not in files]
    if lost:
        raise UserError(f"{src}: {len(lost)} images are not in the image list (first {lost[0]}); leave --labels out")
    return [files[number - first] for number in numbers]
