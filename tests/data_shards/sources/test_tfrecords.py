"""TFRecords against TensorBoard's writer and the protobuf library; what is damaged is named."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorboard.summary.writer.record_writer import RecordWriter

from data_shards.read.loader import open_dataset
from data_shards.sources.containers.tf_example import parse_example
from tests.support import replicas
from tests.support.data_sets import refused, run


def example_class() -> Any:
    """tf.train.Example out of its published schema, built by the protobuf library."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")
    repeated, optional = 3, 1

    def message(name: str, *fields: tuple[str, int, int, int, str | None], into: Any = file) -> Any:
        made = (into.message_type if into is file else into.nested_type).add(name=name)
        for field, number, label, kind, type_name in fields:
            made.field.add(name=field, number=number, label=label, type=kind, type_name=type_name)
        return made

    text, content, whole, real, nested = 9, 12, 3, 2, 11
    message("BytesList", ("value", 1, repeated, content, None))
    message("FloatList", ("value", 1, repeated, real, None))
    message("Int64List", ("value", 1, repeated, whole, None))
    message(
        "Feature",
        ("bytes_list", 1, optional, nested, ".tf.BytesList"),
        ("float_list", 2, optional, nested, ".tf.FloatList"),
        ("int64_list", 3, optional, nested, ".tf.Int64List"),
    )
    features = message("Features", ("feature", 1, repeated, nested, ".tf.Features.FeatureEntry"))
    entry = message(
        "FeatureEntry", ("key", 1, optional, text, None), ("value", 2, optional, nested, ".tf.Feature"), into=features
    )
    entry.options.map_entry = True
    message("Example", ("features", 1, optional, nested, ".tf.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


def serialized(shape: list[int], data: bytes) -> bytes:
    made = example_class()()
    made.features.feature["shape"].int64_list.value.extend(shape)
    made.features.feature["data"].bytes_list.value.append(data)
    made.features.feature["weight"].float_list.value.append(0.5)
    return bytes(made.SerializeToString())


def test_an_example_is_read_as_the_protobuf_library_writes_it() -> None:
    data = np.random.default_rng(0).integers(0, 256, 3 * 300 * 300, dtype=np.uint8).tobytes()
    assert parse_example(serialized([3, 300, 300], data)) == {"shape": [3, 300, 300], "data": data}
    assert parse_example(serialized([-1, 2**40], b"")) == {"shape": [-1, 2**40], "data": b""}


def test_unpacked_integers_and_fields_from_the_future_are_read() -> None:
    list_ = b"\x08\x05\x08\x96\x01" + b"\x15\0\0\0\0" + b"\x19" + bytes(8)
    feature = b"\x1a" + bytes([len(list_)]) + list_
    entry = b"\x0a\x01s\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert parse_example(b"\x0a" + bytes([len(features)]) + features) == {"s": [5, 150]}


@pytest.mark.parametrize("cut", [1, 5, 40, 200])
def test_a_cut_example_is_malformed(cut: int) -> None:
    with pytest.raises(ValueError, match=r"cut off|bytes at byte|wire type|unpack"):
        parse_example(serialized([3, 8, 8], bytes(192))[:-cut])


def records(path: Path, images: list[Any]) -> Path:
    """By TensorBoard's writer, in PGGAN's order, of images [C, H, W]."""
    order = np.arange(len(images))
    np.random.RandomState(123).shuffle(order)
    with open(path, "wb") as stream:
        writer = RecordWriter(stream)
        for i in order:
            writer.write(serialized(list(images[i].shape), images[i].tobytes()))
        writer.flush()
    return path


def test_records_of_another_writer_are_named_by_image(tmp_path: Path) -> None:
    images = [replicas.hq_image(i, 32).transpose(2, 0, 1) for i in range(9)]
    path = records(tmp_path / "x-r05.tfrecords", images)
    assert run("make", "celeba_hq", path, "--out", tmp_path / "set", "--resolutions", "32", "--workers", 1).code == 0
    np.testing.assert_array_equal(open_dataset(tmp_path / "set", 32).read_samples(np.arange(9)).numpy(), images)


def test_grey_records_become_rgb(tmp_path: Path) -> None:
    images = [replicas.hq_image(i, 16).transpose(2, 0, 1)[:1] for i in range(2)]
    path = records(tmp_path / "x-r04.tfrecords", images)
    assert run("make", "celeba_hq", path, "--out", tmp_path / "set", "--resolutions", "16", "--workers", 1).code == 0
    found = open_dataset(tmp_path / "set", 16).read_samples(np.arange(2)).numpy()
    np.testing.assert_array_equal(found, np.repeat(images, 3, axis=1))


def test_the_largest_file_alone_is_read(tmp_path: Path) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 3, "tfrecords", size=64)
    assert [p.name[-13:] for p in sorted(source.iterdir())] == [f"r0{i}.tfrecords" for i in range(2, 7)]
    for path in source.iterdir():
        if "-r06" not in path.name:
            path.write_bytes(b"broken")
    made = run("make", "celeba_hq", source, "--out", tmp_path / "set", "--resolutions", "16", "--workers", 1)
    assert made.code == 0, made.err


def test_the_files_of_all_resolutions_of_the_exporter_agree_with_box_means_to_a_rounding(tmp_path: Path) -> None:
    """Half to even there, half up here: why the largest file is read whatever is asked for."""
    source = replicas.celeba_hq(tmp_path / "src", 3, "tfrecords", size=64)
    sets = {}
    for name, src in (("large", source), ("small", source / "celebahq-r04.tfrecords")):
        args = ["make", "celeba_hq", src, "--out", tmp_path / name, "--resolutions", "16", "--workers", 1]
        assert run(*args).code == 0
        sets[name] = open_dataset(tmp_path / name, 16).read_samples(np.arange(3)).int()
    assert 0 < (sets["large"] - sets["small"]).abs().max() <= 1


# Damage


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Six sound records of 32 px."""
    return replicas.celeba_hq(tmp_path / "src", 6, "tfrecords", size=32) / "celebahq-r05.tfrecords"


def record_size() -> int:
    return len(replicas.tf_record(replicas.tf_example(np.zeros((3, 32, 32), np.uint8))))


def attempt(path: Path, *more: object) -> Any:
    out = path.parent / "set"
    outcome = run("make", "celeba_hq", path, "--out", out, "--resolutions", "32", "--workers", 1, *more)
    assert out.exists() == (outcome.code == 0), "nothing is published where it failed"
    return outcome


def changed(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_changed_data_names_record_and_image_and_can_be_skipped(damaged: Path) -> None:
    changed(damaged, 2 * record_size() + 1000)
    order = np.arange(6)
    np.random.RandomState(123).shuffle(order)
    words = (f"{damaged.name}: record 2 (image {order[2]:05d})", "wrong crc32c of its data", "copy the file again")
    refused(attempt(damaged), "1 problem", *words)
    assert attempt(damaged, "--on-bad", "skip").code == 0
    level = open_dataset(damaged.parent / "set", 32)
    assert [s.file for s in level.manifest.skipped] == [words[0]]
    kept = sorted(set(range(6)) - {int(order[2])})
    truth = [replicas.hq_image(i, 32).transpose(2, 0, 1) for i in kept]
    np.testing.assert_array_equal(level.read_samples(np.arange(5)).numpy(), truth)


def test_a_changed_checksum_of_data(damaged: Path) -> None:
    changed(damaged, record_size() - 1)
    refused(attempt(damaged), f"{damaged.name}: record 0", "wrong crc32c of its data")


@pytest.mark.parametrize("byte", [0, 9])
def test_a_changed_length_is_fatal(damaged: Path, byte: int) -> None:
    changed(damaged, 3 * record_size() + byte)
    words = (damaged, "record 3", "wrong crc32c of its length", "copy the file again")
    refused(attempt(damaged), *words)
    refused(attempt(damaged, "--on-bad", "skip"), *words)


@pytest.mark.parametrize("left", [5, 12, 500, -2])
def test_a_truncated_file_names_its_last_record(damaged: Path, left: int) -> None:
    end = 6 * record_size() + left if left < 0 else 5 * record_size() + left
    damaged.write_bytes(damaged.read_bytes()[:end])
    refused(attempt(damaged), damaged, "record 5 is truncated", "copy the file again")


def test_a_record_of_absurd_length(damaged: Path) -> None:
    length = struct.pack("<Q", 2**40)
    damaged.write_bytes(length + replicas._masked(length))
    refused(attempt(damaged), damaged, "record 0 has 1099511627776 bytes, more than", "name another file")
    damaged.write_bytes(b"")
    refused(attempt(damaged), damaged, "holds no records")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (serialized([3, 32, 31], bytes(3 * 32 * 32)), ["the shape [3, 32, 31] and 3072 bytes"]),
        (serialized([2, 32, 32], bytes(2 * 32 * 32)), ["the shape [2, 32, 32]", "C = 1 or 3"]),
        (serialized([3, 16, 16], bytes(3 * 16 * 16)), ["is 16x16, not 32x32"]),
        (serialized([3072], bytes(3072)), ["the shape [3072]"]),
        (serialized([-3, -32, 32], bytes(3072)), ["the shape [-3, -32, 32]"]),
        (serialized([3, -32, -32], bytes(3072)), ["the shape [3, -32, -32]"]),
        (b"\x0a\x05hello", ["is not a tf.train.Example"]),
        (b"", ["has the features", "not shape (int64) and data (bytes)"]),
    ],
)
def test_a_record_of_another_shape(damaged: Path, record: bytes, words: list[str]) -> None:
    size = record_size()
    data = damaged.read_bytes()
    damaged.write_bytes(data[: 4 * size] + replicas.tf_record(record) + data[5 * size :])
    refused(attempt(damaged), f"{damaged.name}: record 4", *words)


def test_files_that_cannot_be_told_apart(damaged: Path) -> None:
    for name in ("a.tfrecords", "b.tfrecords"):
        (damaged.parent.parent / "two").mkdir(exist_ok=True)
        (damaged.parent.parent / "two" / name).write_bytes(damaged.read_bytes())
    refused(attempt(damaged.parent.parent / "two"), "cannot choose among a.tfrecords, b.tfrecords", "name the file")
    refused(attempt(damaged.parent / "none.tfrecords"), "none.tfrecords: no such file")
