"""Spectrum and detail against loops over frequencies and blocks, on images whose sharpness is known, and in the files
of references."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from common.random_numbers import Purpose, integers
from data_shards.format.pyramid import box_mean
from data_shards.sources.sprites.renderer import COUNT, render
from evaluation.fid import compute, passes, references, sharpness, table_rows, trajectory
from evaluation.fid.extractors import FeatureNet
from evaluation.fid.partial_sums import Extracted, Store
from evaluation.fid.plan import FidPlan
from evaluation.fid.references import ReferencePlan
from evaluation.fid.sharpness import SharpnessSums
from evaluation.fid_steps import open_reals
from evaluation.inputs.choices import Codes, Kind
from evaluation.inputs.images import Maker
from evaluation.inputs.reals import Reals
from evaluation.inputs.target import EvaluationTarget
from tests.support.data_sets import make_dsprites
from trainer.config.sections import DataConfig, InceptionConfig
from trainer.distributed.world import ALONE

LIMIT, SAME = 0.3, 0.05  # images fail above the first; reals and other reals differ by less than the second


def noise(count: int, size: int, channels: int = 3) -> Tensor:
    """Random images with something at every scale."""
    random = torch.Generator().manual_seed(0)
    images = torch.zeros(count, channels, size, size)
    for small in (4, size // 4, size // 2, size):
        part = torch.rand((count, channels, small, small), generator=random)
        images += F.interpolate(part, (size, size), mode="bilinear") * 60
    return images.to(torch.uint8)


def spectrum_by_loops(images: Tensor) -> dict[int, float]:
    """Mean power by the lower end of each ring: the transform written out for every pair of frequencies."""
    x = images.double().numpy().mean(1) / 255
    size = x.shape[-1]
    at = np.arange(size)
    power: dict[int, list[float]] = {}
    for u in range(-size // 2, size // 2):
        for v in range(-size // 2, size // 2):
            radius = np.sqrt(u * u + v * v)
            if not 1 <= radius < size / 2:
                continue
            wave = np.exp(-2j * np.pi * u * at / size)[:, None] * np.exp(-2j * np.pi * v * at / size)
            low = next(2**k for k in range(20) if 2**k <= radius < 2 ** (k + 1))
            power.setdefault(low, []).extend(np.abs((x * wave).sum((1, 2)) / size) ** 2)
    return {low: float(np.mean(values)) for low, values in sorted(power.items())}


def detail_by_blocks(images: Tensor, at: int) -> float:
    """Mean square of the box mean at `at` px minus its own box mean, enlarged pixel by pixel."""
    x = blocks(images.double().numpy() / 255, images.shape[-1] // at)
    return float(((x - np.kron(blocks(x, 2), np.ones((2, 2)))) ** 2).mean())


def blocks(x: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Box means over squares of `side` px."""
    return sum(x[..., i::side, j::side] for i in range(side) for j in range(side)) / side**2


def test_the_spectrum_equals_a_loop_over_all_frequencies() -> None:
    images = noise(3, 64)
    expected = spectrum_by_loops(images)
    assert list(expected) == sharpness.ring_starts(64) == [1, 2, 4, 8, 16]
    assert SharpnessSums.of(images).spectrum == pytest.approx(np.log10(list(expected.values())), abs=1e-4)


def test_detail_equals_block_means_at_every_halving() -> None:
    assert sharpness.halvings(1024) == [1024, 512, 256, 128, 64]
    images = noise(5, 256)
    expected = [np.log10(detail_by_blocks(images, size)) for size in (256, 128, 64)]
    assert SharpnessSums.of(images).detail == pytest.approx(expected, abs=1e-6)


def wave(size: int, u: int, v: int) -> Tensor:
    at = torch.arange(size) * 2 * torch.pi / size
    return ((at[:, None] * u + at * v).cos() * 100 + 128).round().to(torch.uint8)[None, None]


def test_a_wave_is_in_the_ring_of_its_frequency_and_one_in_a_corner_in_none() -> None:
    power = sharpness.ring_power(wave(64, 3, 4))
    assert power[2] > 1000 * np.delete(power, 2).max(), "5 cycles per picture"
    variance, frequencies = (
        (100 / 255) ** 2 / 2,
        sum(16 <= u * u + v * v < 64 for u in range(-8, 9) for v in range(-8, 9)),
    )
    assert power[2] == pytest.approx(variance * 64**2 / frequencies, rel=1e-3)
    corner = wave(64, 30, 30)
    assert sharpness.ring_power(corner).max() < 1e-4
    assert sharpness.detail(corner)[0] == pytest.approx(variance, rel=0.02)


def test_large_batches_are_summed_like_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(7, 128)
    whole = SharpnessSums.of(images)
    parts = SharpnessSums.of(images[:3]).numbers + SharpnessSums.of(images[3:]).numbers
    monkeypatch.setattr(sharpness, "VALUES_AT_ONCE", 2 * 3 * 128**2)
    assert whole.count == parts[0] == 7
    assert whole.numbers == pytest.approx(parts, rel=1e-6)
    assert SharpnessSums.of(images).numbers == pytest.approx(parts, rel=1e-6)


def test_the_number_is_the_difference_farthest_from_0_with_its_sign() -> None:
    images = noise(4, 128)
    blurred = F.interpolate(F.avg_pool2d(images.float(), 2), (128, 128), mode="bilinear").round().to(torch.uint8)
    found = sharpness.differences(SharpnessSums.of(blurred), SharpnessSums.of(images))
    rings = [found[f"spectrum_{low}_to_{2 * low}"] for low in (1, 2, 4, 8, 16, 32)]
    halvings = [found[f"detail_{size}_px"] for size in (128, 64)]
    assert found["spectrum"] == min(rings) == rings[-1] < -LIMIT
    assert found["detail"] == min(halvings) == halvings[0] < -LIMIT
    assert len(found) == 2 + 6 + 2
    back = sharpness.differences(SharpnessSums.of(images), SharpnessSums.of(blurred))
    assert back["spectrum"] == -rings[-1]


def test_an_image_without_any_detail_has_a_finite_number() -> None:
    blank = SharpnessSums.of(torch.zeros(2, 1, 64, 64, dtype=torch.uint8))
    assert blank.spectrum.tolist() == [-12] * 5
    assert blank.detail.tolist() == [-12]


@cache
def reals(size: int, count: int) -> Tensor:
    """Random dSprites, anti-aliased above 64 px."""
    index = integers(7, Purpose.EVAL_FACTORS, torch.arange(count), (), COUNT)
    drawn = torch.from_numpy(render(index.numpy(), size))[:, None]
    return drawn * 255 if size == 64 else drawn


@pytest.mark.parametrize(("size", "count"), [(64, 2048), (256, 512)])
def test_reals_and_other_reals_are_equally_sharp(size: int, count: int) -> None:
    """Of 40 seeds all were below 0.05 with 1,024 images a side, 39 with 512, 37 with 256."""
    found = sharpness.differences(*(SharpnessSums.of(half) for half in reals(size, 2 * count).split(count)))
    assert 0 < abs(found["spectrum"]) < SAME
    assert 0 < abs(found["detail"]) < SAME


def test_images_enlarged_from_64_px_fail() -> None:
    """By nearest in detail, where nothing is left of it, and not by their frequencies above 64 px; by bicubic in both.

    Nearest takes 0.3 from the octave below, 16 to 32 cycles, as every box mean does: that is the limit itself.
    """
    large = reals(256, 1024)[:256]
    small, of_reals = box_mean(large, 64), SharpnessSums.of(large)
    nearest, bicubic = (
        sharpness.differences(SharpnessSums.of(F.interpolate(small, (256, 256), mode=mode)), of_reals)
        for mode in ("nearest", "bicubic")
    )
    assert nearest["detail_256_px"] < -5
    assert nearest["detail_128_px"] < -5
    assert abs(nearest["detail_64_px"]) < SAME
    assert abs(nearest["spectrum_32_to_64"]) < LIMIT
    assert abs(nearest["spectrum_64_to_128"]) < LIMIT
    assert abs(nearest["spectrum"]) < LIMIT + SAME
    assert bicubic["detail"] < -LIMIT
    assert bicubic["spectrum"] < -LIMIT


@pytest.fixture(scope="module")
def of_128_px(tmp_path_factory: pytest.TempPathFactory) -> Reals:
    """Color sprites, whose 64 px level is no box mean of the larger one as it is drawn."""
    path = make_dsprites(tmp_path_factory.mktemp("sharpness") / "data", 160, "128,64", per_shard=160)
    return open_reals(DataConfig(path=path, variant="color"), 0)


def coarse(images: Tensor, faithful: bool) -> Extracted:
    """Features that are cheap: a mean and a corner."""
    return Extracted(torch.stack((images.float().mean((1, 2, 3)), images[:, 0, 0, 0].float()), 1))


NET = FeatureNet("factor-net", "0" * 64, 2, 64, torch.device("cpu"), coarse)


def target_of(folder: Path, reals: Reals, made: Callable[[Tensor], Tensor]) -> EvaluationTarget:
    """A run at 128 px whose generator makes `made` of the reals; its VAE's decodings are the reals of 64 px."""

    def make(kind: Kind, seed: int, codes: Codes, offset: int, resolution: int) -> Maker:
        if kind == "vae":
            return lambda positions: reals.at(seed, positions + offset, 64)
        if kind == "reals":
            return lambda positions: reals.at(seed, positions + offset, resolution)
        return lambda positions: made(reals.at(seed, positions + offset, 128))

    return EvaluationTarget(
        folder, {}, reals.identity(), ("gan", "reals", "vae"), reals, 128, InceptionConfig(),
        lambda requested: "prior", make, lambda kind: {"kind": kind},
    )  # fmt: skip


def enlarged(images: Tensor) -> Tensor:
    return F.interpolate(box_mean(images, 64), (128, 128), mode="nearest")


def test_images_are_measured_at_their_own_size_against_reals_of_that_size(of_128_px: Reals, tmp_path: Path) -> None:
    """Also where the features are of 64 px. The file of statistics made for a smaller phase gets the larger level."""
    plan = FidPlan(NET, ("reals", "gan", "vae"), 64, "prior", 0)
    with compute.fid(target_of(tmp_path, of_128_px, enlarged), plan, ALONE) as found:
        pass
    first, others = (torch.arange(64) + offset for offset in (0, 64))
    large = [of_128_px.at(0, at, 128) for at in (first, others)]
    small = [of_128_px.at(0, at, 64) for at in (first, others)]
    for kind, images, reference in (
        ("reals", large[1], large[0]),
        ("gan", enlarged(large[1]), large[0]),
        ("vae", small[1], small[0]),
    ):
        expected = sharpness.differences(SharpnessSums.of(images), SharpnessSums.of(reference))
        numbers = {name: found[kind][name] for name in expected}
        assert numbers == pytest.approx(expected, abs=1e-6), kind
    assert found["gan"]["detail"] < -5
    assert "detail_128_px" not in found["vae"]
    assert len(list((of_128_px.path / "references").glob("*"))) == 1


def test_sharpness_looks_at_the_first_images_alone(
    of_128_px: Reals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "KEPT", 70)
    target, plan = target_of(tmp_path, of_128_px, lambda x: x), FidPlan(NET, ("gan",), 160, "prior", 0)
    look = passes.features_of_pass(target, plan, passes.plan_passes(target, plan, 0, 0)[0])
    blocks = [look(torch.arange(start, min(start + 64, 160))) for start in (0, 64, 128)]
    assert [sum(one.count for one in block.sharpness) for block in blocks] == [64, 6, 0]
    assert [len(block.features) for block in blocks] == [64, 64, 32]


def plan_of(reals: Reals, folder: Path, *sizes: int) -> ReferencePlan:
    identity = references.identity_of(reals.identity(), NET, 64, 100, 0)
    path = folder / "data" / "reference.safetensors"
    return ReferencePlan(reals, NET, identity, sizes, path, folder / "own", folder / "partial")


def without_sharpness(plan: ReferencePlan) -> bytes:
    """Write a reference as version 0.2.0 did."""
    made = references.make(plan, ALONE, lambda n: None)
    references.write(plan.path, dataclasses.replace(made, sharpness={}))
    return plan.path.read_bytes()


def test_a_reference_without_sharpness_gets_it_and_keeps_its_features(of_128_px: Reals, tmp_path: Path) -> None:
    without_sharpness(plan_of(of_128_px, tmp_path, 64))
    before = references.read(plan_of(of_128_px, tmp_path).path)
    done: list[int] = []
    for sizes in ((64,), (64, 128), (64, 128)):
        found = references.make(plan_of(of_128_px, tmp_path, *sizes), ALONE, done.append)
        assert sum(done) == 100, "the progress bar ends"
        done.clear()
        kept = references.read(plan_of(of_128_px, tmp_path).path)
        for reference in (found, kept):
            assert sorted(reference.sharpness) == list(sizes)
            for size in sizes:
                expected = SharpnessSums.of(of_128_px.at(0, torch.arange(100), size)).numbers
                assert reference.sharpness[size].numbers == pytest.approx(expected, rel=1e-6)
            assert reference.moments.total.tolist() == before.moments.total.tolist()
            assert np.array_equal(reference.features, before.features)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["reference.safetensors"]
    assert not any(path.is_file() for path in (tmp_path / "partial").iterdir())


def test_a_reference_that_cannot_be_replaced_gets_its_sharpness_in_the_run(
    of_128_px: Reals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(of_128_px, tmp_path, 128)
    before = without_sharpness(plan)
    monkeypatch.setattr(os, "access", lambda path, mode: path != plan.path.parent)
    assert list(references.make(plan, ALONE, lambda n: None).sharpness) == [128]
    assert plan.path.read_bytes() == before
    (own,) = (tmp_path / "own").iterdir()
    assert list(references.read(own).sharpness) == [128]
    name = references.path_of(plan.identity, of_128_px, tmp_path / "own").name
    own.rename(own.with_name(name))
    assert references.path_of(plan.identity, of_128_px, tmp_path / "own") == own.with_name(name), "from then on"


def test_a_named_reference_without_sharpness_leaves_two_columns_open(
    of_128_px: Reals, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_of(of_128_px, tmp_path, 64)
    without_sharpness(plan)
    target = dataclasses.replace(target_of(tmp_path, of_128_px, enlarged), reals=None)
    with caplog.at_level(logging.WARNING):
        fid_plan = FidPlan(NET, ("gan", "vae"), 32, "prior", 0, reference=plan.path)
        with compute.fid(target, fid_plan, ALONE) as found:
            pass
    (line,) = [text for text in caplog.messages if "sharpness" in text]
    for word in (plan.path, "64 px, 128 px", "spectrum and detail", "--resolution 128"):
        assert str(word) in line
    assert found["gan"]["fid"] > 0
    assert found["gan"]["spectrum"] is found["vae"]["detail"] is None
    assert table_rows.row(found["gan"])[-2:] == ["-", "-"]


def test_sums_of_a_stopped_job_without_sharpness_are_made_again(tmp_path: Path) -> None:
    """Those of version 0.2.0, and those of a phase of another resolution."""
    old = Store(tmp_path, {"seed": 0}, None)
    sums = old.open(2)
    sums.blocks, sums.moments.count = 3, 192
    old.save(sums)
    assert old.open(2).blocks == 3
    for sizes in ([64], [128]):
        new = Store(tmp_path, {"seed": 0}, None, sizes).open(2)
        assert (new.blocks, new.moments.count, list(new.sharpness)) == (0, 0, sizes)
        Store(tmp_path, {"seed": 0}, None, sizes).save(dataclasses.replace(new, blocks=1))
        assert Store(tmp_path, {"seed": 0}, None, sizes).open(2).blocks == 1


def test_rows_and_the_trajectory_with_and_without_sharpness() -> None:
    old = {"fid": 12.0, "count": 50, "fidelity": None, "kid": 0.1}
    new = old | {"spectrum": -0.27, "detail": 0.0512, "spread": {"detail": 0.002}}
    assert table_rows.COLUMNS[-2:] == ("spectrum", "detail")
    assert table_rows.row(old)[-2:] == ["", ""]
    assert table_rows.row(new)[-2:] == ["-0.270", "+0.051 \u00b1 0.002"]
    records = [{"images_seen": i, "kinds": {"gan": numbers}} for i, numbers in enumerate((old, new))]
    header, *rows = [line.split(",") for line in trajectory.table(records).splitlines()]
    assert header[-2:] == ["spectrum", "detail"]
    assert [row[-2:] for row in rows] == [["", ""], ["-0.27", "0.0512"]]
