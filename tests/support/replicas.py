"""Small replicas of published data sets in their real layouts: deterministic, cheap, with structure in every image."""

from __future__ import annotations

import csv
import hashlib
import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.io import savemat

from common.arrays import Int64, UInt8

_NAMES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
ATTRIBUTES = _NAMES.split()
LANDMARKS = [f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]
CAR_CLASSES = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "BMW M3 Coupe 2012")


def picture(width: int, height: int, seed: int) -> Image.Image:
    """An RGB image: a smooth gradient, an ellipse and a box with an outline."""
    rng = np.random.default_rng(seed)
    corners = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
    image = corners.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for shape in (draw.ellipse, draw.rectangle):
        x, y = (int(v) for v in rng.uniform(0.1, 0.5, 2) * (width, height))
        w, h = (int(v) for v in rng.uniform(0.2, 0.4, 2) * (width, height))
        shape((x, y, x + w, y + h), fill=tuple(rng.integers(0, 256, 3).tolist()), outline="white", width=2)
    return image


def celeba(folder: Path, count: int, kind: Literal["folder", "zip"] = "folder", labels: str = "txt") -> Path:
    """FOLDER/img_align_celeba (or its zip) beside the label files, as txt or, as on Kaggle, csv; "" for none."""
    files = [(f"img_align_celeba/{i + 1:06d}.jpg", _encoded(picture(178, 218, i), "JPEG")) for i in range(count)]
    _write(folder, files, folder / "img_align_celeba.zip" if kind == "zip" else None)
    if labels:
        celeba_labels(folder, count, labels)
    return folder


def celeba_labels(folder: Path, count: int, kind: str = "txt") -> dict[str, Int64]:
    """CelebA's label files for 000001.jpg to COUNT.jpg; returns the values as they stand in the files, [count, C]."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    values = {
        "list_attr_celeba": rng.choice([-1, 1], (count, 40)),
        "identity_CelebA": rng.integers(1, 10_178, (count, 1)),
        "list_eval_partition": rng.integers(0, 3, (count, 1)),
        "list_landmarks_align_celeba": rng.integers(20, 200, (count, 10)),
    }
    headers = {"list_attr_celeba": ATTRIBUTES, "list_landmarks_align_celeba": LANDMARKS}
    for name, table in values.items():
        rows = [[f"{i + 1:06d}.jpg", *row] for i, row in enumerate(table.tolist())]
        if kind == "csv":
            with open(folder / f"{name}.csv", "w", newline="") as stream:
                csv.writer(stream).writerows([["image_id", *headers.get(name, [name])], *rows])
            continue
        head = f"{count}\n{' '.join(headers[name])}\n" if name in headers else ""
        text = "".join(f"{row[0]} {' '.join(f'{v:2d}' for v in row[1:])}\n" for row in rows)
        (folder / f"{name}.txt").write_text(head + text)
    return values


def hq_image(number: int, size: int) -> UInt8:
    """Image `number` of the CelebA-HQ replica: uint8 [size, size, 3]."""
    return np.asarray(picture(size, size, 1000 + number))


def celeba_hq(
    folder: Path,
    count: int,
    kind: Literal["folder", "zip", "tfrecords", "parquet"] = "folder",
    size: int = 1024,
) -> Path:
    """The source to name: a folder of 00000.png ..., a zip of data1024x1024/, a folder of records or of parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [hq_image(i, size) for i in range(count)]
    if kind == "tfrecords":
        for level in range(2, size.bit_length()):
            small = [_halved(image, 2**level) for image in images]
            order = np.arange(count)
            np.random.RandomState(123).shuffle(order)
            records = [tf_example(small[i].transpose(2, 0, 1)) for i in order]
            path = folder / f"celebahq-r{level:02d}.tfrecords"
            path.write_bytes(b"".join(tf_record(record) for record in records))
    elif kind == "parquet":
        hq_parquet(folder / "data" / "train-00000-of-00001.parquet", images)
    else:
        prefix = f"data{size}x{size}/" if kind == "zip" else ""
        files = [(f"{prefix}{i:05d}.png", _encoded(Image.fromarray(image), "PNG")) for i, image in enumerate(images)]
        _write(folder, files, folder / f"data{size}x{size}.zip" if kind == "zip" else None)
    return folder / f"data{size}x{size}.zip" if kind == "zip" else folder


def hq_parquet(path: Path, images: Sequence[UInt8 | None], group: int = 2, paths: bool = True) -> None:
    """A parquet file as Hugging Face's `datasets` writes it: image: struct<bytes, path>, label."""
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [
        {
            "bytes": None if image is None else _encoded(Image.fromarray(image), "PNG"),
            "path": f"{i:05d}.png" if paths else None,
        }
        for i, image in enumerate(images)
    ]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {"image": pyarrow.array(cells, kind), "label": pyarrow.array([0] * len(cells))}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=group)


def image_list(path: Path, images: Sequence[UInt8], first_celeba: int = 1) -> Path:
    """CelebA-HQ's image_list.txt for these images; image i is made of CelebA's first_celeba + count - 1 - i."""
    lines = ["idx     orig_idx orig_file  proc_md5                         final_md5                       "]
    for i, image in enumerate(images):
        origin = first_celeba + len(images) - 1 - i
        md5 = hashlib.md5(np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes()).hexdigest()
        lines.append(f"{i:<8d} {origin - 1:<8d} {origin:06d}.jpg {'0' * 32} {md5}")
    path.write_text("\n".join(lines) + "\n")
    return path


def tf_example(pixels: UInt8) -> bytes:
    """A serialized tf.train.Example of uint8 [C, H, W], as the PGGAN code writes it."""

    def field(number: int, content: bytes) -> bytes:
        return _varint(number << 3 | 2) + _varint(len(content)) + content

    def feature(name: str, number: int, values: bytes) -> bytes:
        return field(1, field(1, name.encode()) + field(2, field(number, values)))

    shape = field(1, b"".join(_varint(v) for v in pixels.shape))
    data = field(1, np.ascontiguousarray(pixels).tobytes())
    return field(1, feature("shape", 3, shape) + feature("data", 1, data))


def tf_record(data: bytes) -> bytes:
    """A framed record: length, its masked crc32c, data, its masked crc32c."""
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data: bytes) -> bytes:
    import google_crc32c

    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    head = b""
    while value > 127:
        head, value = head + bytes([value & 127 | 128]), value >> 7
    return head + bytes([value])


def _halved(image: UInt8, size: int) -> UInt8:
    """The PGGAN exporter's smaller levels: means of 2x2 in float32, rounded half to even at each level's file."""
    floats = image.astype(np.float32)
    while floats.shape[0] > size:
        floats = (floats[0::2, 0::2] + floats[0::2, 1::2] + floats[1::2, 0::2] + floats[1::2, 1::2]) * 0.25
    return np.rint(floats).clip(0, 255).astype(np.uint8)


VIEWS = ((20, 11), (20, 34), (30, 11), (30, 232))  # elevation, azimuth


def chairs(folder: Path, models: int = 2, views: Sequence[tuple[int, int]] = VIEWS, size: int = 600) -> Path:
    """FOLDER/rendered_chairs/MODEL/renders/image_NNN_pPPP_tTTT_r096.png; returns rendered_chairs."""
    root = folder / "rendered_chairs"
    for model in range(models):
        name = hashlib.md5(str(model).encode()).hexdigest()
        for i, (elevation, azimuth) in enumerate(views):
            path = root / name / "renders" / f"image_{i:03d}_p{elevation:03d}_t{azimuth:03d}_r096.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(size, size, 100 * model + i).save(path, compress_level=1)
    return root


def cars(folder: Path, count: int, layout: Literal["published", "flat"] = "published") -> Path:
    """cars_train + cars_test + devkit, `count` images in all (half of them test), or car_ims + cars_annos.mat.

    The last box of each split has a side of 63 px. Boxes count from 1 and are inclusive.
    """
    splits = (
        {"cars_train": count - count // 2, "cars_test": count // 2} if layout == "published" else {"car_ims": count}
    )
    for number, (split, size) in enumerate(splits.items()):
        (folder / split).mkdir(parents=True, exist_ok=True)
        rows = []
        for i in range(size):
            width, height = 200 + 10 * i, 150 + 7 * i
            file = f"{i + 1:05d}.jpg" if layout == "published" else f"{i + 1:06d}.jpg"
            picture(width, height, 500 + 100 * number + i).save(folder / split / file, quality=95)
            right = 11 + (63 if i == size - 1 else 120 + i)
            rows.append((11, 21 + i, right, height if i == 0 else height - 3, 1 + i % len(CAR_CLASSES), file))
        _annotations(folder, split, rows)
    return folder


def black(path: Path, array: str, count: int) -> Path:
    """As many images as are published, all fill values: a hdf5 of a few kB, whatever its name says."""
    with h5py.File(path, "w") as file:
        file.create_dataset(array, (count, 64, 64, 3), np.uint8, chunks=(1, 64, 64, 3))
    return path


def _annotations(folder: Path, split: str, rows: list[tuple[int, int, int, int, int, str]]) -> None:
    names = np.array(CAR_CLASSES, dtype=object).reshape(1, -1)
    if split == "car_ims":
        flat = [(f"car_ims/{r[5]}", *r[:5], 0) for r in rows]
        fields = ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"]
        savemat(folder / "cars_annos.mat", {"annotations": struct_array(flat, fields), "class_names": names})
        return
    devkit = folder / "devkit"
    devkit.mkdir(exist_ok=True)
    savemat(devkit / "cars_meta.mat", {"class_names": names})
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
    if split == "cars_train":
        savemat(devkit / "cars_train_annos.mat", {"annotations": struct_array(rows, fields)})
        return
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": struct_array(rows, fields)})
    unlabelled = struct_array([(*r[:4], r[5]) for r in rows], [*fields[:4], "fname"])
    savemat(devkit / "cars_test_annos.mat", {"annotations": unlabelled})


def struct_array(rows: Sequence[tuple[Any, ...]], fields: Sequence[str]) -> NDArray[Any]:
    """A MATLAB struct array [1, N]."""
    return np.array(list(rows), dtype=[(name, object) for name in fields]).reshape(1, -1)


def _encoded(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **({"quality": 95} if kind == "JPEG" else {"compress_level": 1}))
    return stream.getvalue()


def _write(folder: Path, files: Sequence[tuple[str, bytes]], archive: Path | None) -> None:
    """Files below a folder, or as members of a zip."""
    folder.mkdir(parents=True, exist_ok=True)
    if archive is not None:
        with zipfile.ZipFile(archive, "w") as stream:
            for name, data in files:
                stream.writestr(zipfile.ZipInfo(name), data)
        return
    for name, data in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
