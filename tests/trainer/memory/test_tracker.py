"""The counter of live bytes on cases counted by hand, with real tensors and with fake ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trainer.memory.fake_tensors import fake_tensors
from trainer.memory.tracker import MemoryTracker

KB = 1024  # bytes of 256 floats


@pytest.fixture(params=["real", "fake"])
def tracker(request: pytest.FixtureRequest) -> Iterator[MemoryTracker]:
    with fake_tensors() if request.param == "fake" else nullcontext(), MemoryTracker(listing=True) as counter:
        yield counter


def test_what_is_made_counts_until_it_is_freed(tracker: MemoryTracker) -> None:
    a = torch.zeros(256)
    b = a + 1
    assert (tracker.now, tracker.peak) == (2 * KB, 2 * KB)
    del a
    assert (tracker.now, tracker.peak) == (KB, 2 * KB)
    tracker.reset_peak()
    assert tracker.peak == KB
    del b
    assert tracker.now == 0


def test_a_storage_counts_once_and_lives_as_long_as_its_last_view(tracker: MemoryTracker) -> None:
    a = torch.zeros(256)
    views = [a[:3], a.view(16, 16).t(), a.detach(), a.expand(5, 256)]
    assert tracker.now == KB
    del a
    assert tracker.now == KB
    del views
    assert tracker.now == 0


def test_changes_in_place_make_nothing(tracker: MemoryTracker) -> None:
    a = torch.zeros(256)
    a.add_(1).mul_(2)
    a += a.view(256)
    assert (tracker.now, tracker.peak) == (KB, KB)


def test_what_fully_shard_does_to_storages_is_seen() -> None:
    """It frees a gathered weight by resizing its storage, and holds parts of whole shapes."""
    with MemoryTracker() as tracker:
        a = torch.zeros(256)
        a.untyped_storage().resize_(0)
        assert (tracker.now, tracker.peak) == (0, KB)
        a.untyped_storage().resize_(KB)
        assert tracker.now == KB
    assert torch.UntypedStorage.resize_.__name__ == "resize_"
    a.untyped_storage().resize_(0)
    assert tracker.now == KB, "nothing is followed after the mode"


def test_the_meta_device_has_no_memory(tracker: MemoryTracker) -> None:
    a = torch.zeros(256, device="meta")
    b = a + 1
    assert tracker.now == 0
    del a, b
    assert tracker.peak == 0


def test_a_storage_that_grows_in_place_counts_its_new_size() -> None:
    with MemoryTracker() as tracker:
        a = torch.zeros(256)
        a.resize_(512)
        assert tracker.now == 2 * KB
        del a
        assert tracker.now == 0


def test_what_was_there_before_does_not_count() -> None:
    before = torch.zeros(256)
    with MemoryTracker() as tracker:
        before.add_(1)
        view = before[3:]
        assert tracker.now == 0
        copy = view.clone()
        assert tracker.now == KB - 12
        del before, view, copy
    assert tracker.now == 0


def test_autograd_keeps_what_it_saves_and_no_more(tracker: MemoryTracker) -> None:
    x = torch.ones(256, requires_grad=True)
    y = (x * 2).exp().sum()  # exp keeps its result; the product is freed
    assert tracker.now == 2 * KB + 4
    assert tracker.peak == 3 * KB
    y.backward()
    assert tracker.now == 2 * KB + 4, "x, its gradient, the sum"


def test_a_checkpoint_keeps_its_input_alone(tracker: MemoryTracker) -> None:
    x = torch.ones(256, requires_grad=True)
    y = checkpoint(lambda x: x.exp().exp().exp(), x, use_reentrant=False, preserve_rng_state=False)
    assert tracker.now == 2 * KB
    y.sum().backward()
    assert tracker.now == 3 * KB


def test_what_is_set_apart_stops_counting_and_is_freed_for_nothing(tracker: MemoryTracker) -> None:
    a, b = torch.zeros(256), torch.zeros(512)
    assert tracker.exclude([a]) == KB
    assert tracker.exclude([a]) == 0
    assert tracker.now == 2 * KB
    a.add_(1)
    view = a[1:]
    del a, view
    assert tracker.now == 2 * KB
    del b
    assert tracker.now == 0


def test_the_list_at_the_peak_says_what_was_alive(tracker: MemoryTracker) -> None:
    a = torch.zeros(256)
    b = torch.ones(2, 256)
    del b
    c = torch.zeros(8)
    assert sorted((one.bytes, one.shape) for one in tracker.at_peak) == [(KB, (256,)), (2 * KB, (2, 256))]
    assert {one.maker for one in tracker.at_peak} == {"aten.zeros.default", "aten.ones.default"}
    del a, c


def test_networks_move_and_are_copied_as_fakes() -> None:
    """torch's own nn.Module.to refuses fake parameters."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    with fake_tensors(), MemoryTracker() as tracker:
        moved = network.to(torch.float64).to(memory_format=torch.channels_last)
        assert moved is network
        assert tracker.now == 8 * sum(t.numel() for t in network.parameters())
        assert all(p.is_contiguous(memory_format=torch.channels_last) for p in network.parameters() if p.dim() == 4)
    assert type(nn.Linear(2, 2).double().weight.data) is torch.Tensor, "torch's own is back"
