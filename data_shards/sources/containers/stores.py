"""Open whatever holds the images: a folder, a zip, a tar, or a folder of tars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from common.errors import UserError
from data_shards.format import manifest
from data_shards.format.compressed_tars import is_compressed, is_compressed_name, refuse_compressed
from data_shards.format.left_out import LeftOut

from .folder_and_zip import FolderStore, ZipStore
from .image_store import Store
from .parquet import open_parquet
from .tar_store import TarStore

_ARCHIVES = (".tar", ".zip", ".parquet")


def open_store(src: Path, image: str | None = None) -> Store:
    """Open a folder, zip or tar of images. image: see `TarStore`. Raises UserError where there is none of them."""
    if src.is_dir():
        return FolderStore(src)
    if not src.is_file():
        what = "is a pattern, which is not expanded" if any(c in str(src) for c in "{*?") else "no such folder or zip"
        raise UserError(f"{src}: {what}; name a folder of images, or a zip of them")
    refuse_compressed([src])
    return TarStore(src, (src,), image) if _is_tar(src) else ZipStore(src)


def open_tars(src: Path, image: str | None = None) -> TarStore | None:
    """Open the tars at any depth below a folder; None where there are none. image: see `TarStore`.

    Of a set of ours, or one that `index` has described, they are those of the largest level. Raises UserError where
    some are compressed.
    """
    root = _largest_level(src)
    files = FolderStore(root).left_out().files
    tars = [path for path, why in files if why == "no image" and path.lower().endswith(".tar")]
    compressed = [path for path, why in files if why == "no image" and is_compressed_name(path)]
    refuse_compressed(root / path for path in [*compressed, *tars])
    beside = LeftOut(tuple(file for file in files if file[0] not in set(tars)))
    return TarStore(root, tuple(root / path for path in tars), image, beside, described_in=src) if tars else None


def refuse_larger_archives(store: FolderStore) -> None:
    """Raise a UserError where the archives in a folder hold more images than lie beside them.

    Beside the images that it was unpacked to, an archive is left out. Beside a stray picture it is what was meant.
    """
    photos = store.photos()
    files = [store.root / path for path, why in store.left_out().files if why == "no image"]
    compressed = [path for path in files if is_compressed(path)]
    if _bytes(compressed) > 2 * _bytes(store.root / photo.path for photo in photos):  # they cannot be counted
        refuse_compressed(compressed)
    archives = [path for path in files if path.suffix.lower() in _ARCHIVES and path not in compressed]
    held = sum(map(_count, archives))
    if held > len(photos):
        kinds = Counter(path.suffix.lower() for path in archives)
        raise UserError(
            f"{store.root}: holds {len(photos):,} images as files, and {held:,} in archives "
            f"({', '.join(f'{name} {count:,}' for name, count in kinds.items())}), which would be left out; "
            "move the images elsewhere, or the archives"
        )


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def _count(archive: Path) -> int:
    """The images in an archive; 0 where it cannot be read."""
    kind = archive.suffix.lower()
    try:
        if kind == ".parquet":
            return open_parquet([archive]).count()
        store = TarStore(archive, (archive,)) if kind == ".tar" else ZipStore(archive)
        return sum(photo.fault is None for photo in store.photos())
    except (UserError, OSError):
        return 0


def _largest_level(src: Path) -> Path:
    """The folder of the largest level of a set; `src` itself where it holds no set."""
    if not (src / manifest.FILE).exists():
        return src
    try:
        stored = manifest.load(src)
    except UserError:  # the manifest of another program
        return src
    return src / stored.level(stored.resolutions[0]).folder


def _is_tar(path: Path) -> bool:
    """Return whether a file is a tar, by its name or by what POSIX tars have in their first header."""
    with open(path, "rb") as stream:
        return path.suffix.lower() == ".tar" or stream.read(262)[257:] == b"ustar"
