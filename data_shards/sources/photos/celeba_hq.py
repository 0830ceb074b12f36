"""CelebA-HQ, 1024 px (Karras et al., "Progressive Growing of GANs", ICLR 2018, appendix C), however it is kept: a
folder, a zip, CelebAMask-HQ, the TFRecords of that paper's code, or the parquet files of Hugging Face. It is taken as
it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from common.errors import UserError
from data_shards.format.litter import litter
from data_shards.format.manifest import CODE_RESOLUTION, Label
from data_shards.format.tars import sha256
from data_shards.sources.containers.image_store import Fault, Photo, Store, by_file_name, images_of
from data_shards.sources.containers.parquet import ParquetStore, open_parquet, parquet_files
from data_shards.sources.containers.stores import open_store
from data_shards.sources.containers.tfrecords import RecordStore, largest_records
from data_shards.sources.published_counts import fewer

from .celeba import add_labels, find_label_tables, label_file_hashes, table_labels
from .celebamask_hq import NONE, images_alone, rows_by_number, text_files
from .crop_and_resize import IDENTICAL, AsIs, number_in
from .label_files import ATTRIBUTES, IDENTITY, PARTITION, ListedImage, Table, read_image_list
from .photo_source import Photos, photos_hash

SIDE, COUNT = 1024, 30_000
_LABEL_FILES = (ATTRIBUTES, IDENTITY, PARTITION)  # the landmarks are about other pixels


class _Labelled(NamedTuple):
    """Photos with their labels. first: the number that names begin with, where CelebA's label files go by them."""

    photos: list[Photo]
    tables: list[Table]
    notes: tuple[str, ...]
    first: int | None


def celeba_hq(src: Path, size: int, image_list: Path | None = None, labels: Path | None = None) -> Photos:
    """Open CelebA-HQ in any of its layouts as a source; a smaller `size` (px) takes exact box means of the images.

    image_list: the published image_list.txt, to verify pixels with. labels: a folder with CelebA's label files, whose
    rows the column orig_file of the list names, or that of CelebAMask-HQ's mapping. Raises UserError where files are
    missing or do not belong together.
    """
    listed = read_image_list(image_list) if image_list is not None else []
    store = _store(src)
    unsorted, left_out = images_alone(images_of(store, src), src)
    photos = _sorted(store, unsorted, src)
    side = _side(store, photos, src, size)
    photos, tables, notes, first = _labelled(photos, store, src, listed, labels)
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
        notes=(*left_out, *notes, *_unlike_the_published(store, len(photos), side), *fewer("celeba_hq", len(photos))),
    )


def _labelled(
    photos: list[Photo], store: Store, src: Path, listed: list[ListedImage], labels: Path | None
) -> _Labelled:
    """Label the photos by CelebAMask-HQ's text files, where they are, and by CelebA's label files in `labels`."""
    beside = text_files(src) if not isinstance(store, ParquetStore) else NONE
    tables, rows = list(beside.tables), [rows_by_number(photos, table) for table in beside.tables]
    first = None
    if labels is not None:
        listed = listed or beside.mapping
        if not listed:
            raise UserError("--labels needs --image-list: only image_list.txt says which CelebA image each one was")
        _refuse_rows_without_paths(store, photos, src)
        first = _first_number(photos, listed, src)
        known = {label.name for table in tables for label in table.labels}
        more = [x for x in find_label_tables(src, labels, _LABEL_FILES) if known.isdisjoint(y.name for y in x.labels)]
        tables += more
        rows += [_orig_files(photos, listed, src, first)] * len(more)
    if not tables:
        return _Labelled(photos, [], beside.notes, first)
    photos, notes = add_labels(photos, tables, rows)
    return _Labelled(photos, tables, (*notes, *beside.notes), first)


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


def _sorted(store: Store, photos: list[Photo], src: Path) -> list[Photo]:
    """Sort by image number, which not every copy pads with zeros. Parquet keeps its order, to be read in one sweep."""
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
        enlarge = f"store them enlarged with `make folder {src} --enlarge`"
        remedy = f"choose at most {width}" if width >= CODE_RESOLUTION else enlarge
        raise UserError(f"--resolutions has {size}, the images of {src} are {width} px; {remedy}")
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
