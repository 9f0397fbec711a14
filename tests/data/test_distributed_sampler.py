"""What each of several ranks visits, beside torch's sampler, and a loader's state over ranks."""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pytest
import torch.utils.data as torch_data

from minigrad import distributed
from minigrad.data import BatchSampler, DataLoader
from minigrad.errors import CheckpointError
from minigrad.utils import data as utils_data
from minigrad.utils.data import DistributedSampler


def shares(count: int, ranks: int, kind: Any = DistributedSampler, **options: Any) -> list[Any]:
    """The samplers of all ranks."""
    return [kind(range(count), ranks, rank, **options) for rank in range(ranks)]


def dealt(samplers: list[Any]) -> list[int]:
    """One number of each rank in turn: the order that was dealt out."""
    turns = chain.from_iterable(zip_longest(*samplers))
    return [number for number in turns if number is not None]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("count", [1, 5, 24, 25])
def test_ranks_get_what_torch_gives_them(count: int, ranks: int, drop_last: bool) -> None:
    options = {"shuffle": False, "drop_last": drop_last}
    ours = shares(count, ranks, **options)
    theirs = shares(count, ranks, torch_data.DistributedSampler, **options)
    for mine, other in zip(ours, theirs, strict=True):
        assert list(mine) == list(other)
        assert (len(mine), mine.num_samples, mine.total_size) == (
            len(other), other.num_samples, other.total_size
        )  # fmt: skip


def test_a_shuffled_order_is_padded_by_its_own_beginning() -> None:
    order = dealt(shares(10, 4, seed=3))
    assert sorted(order[:10]) == list(range(10)) != order[:10]
    assert order[10:] == order[:2]
    assert dealt(shares(10, 4, seed=3, drop_last=True)) == order[:8]
    assert dealt(shares(10, 3, seed=3, pad=False)) == order[:10]


def test_the_order_follows_from_seed_and_epoch_and_not_from_the_ranks() -> None:
    sampler = DistributedSampler(range(50), 1, 0, seed=1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(7)
    seventh = list(sampler)
    assert sorted(seventh) == sorted(first)
    assert seventh != first != list(DistributedSampler(range(50), 1, 0, seed=2))
    samplers = shares(50, 5, seed=1)
    for each in samplers:
        each.set_epoch(7)
    assert dealt(samplers) == seventh


@pytest.mark.parametrize(("count", "ranks"), [(0, 2), (1, 4), (10, 4), (12, 4)])
def test_without_padding_every_sample_is_visited_once(count: int, ranks: int) -> None:
    samplers = shares(count, ranks, pad=False)
    numbers = [list(each) for each in samplers]
    assert sorted(chain.from_iterable(numbers)) == list(range(count))
    assert [len(each) for each in samplers] == list(map(len, numbers))
    assert max(map(len, numbers)) - min(map(len, numbers)) <= 1


def test_ranks_are_by_default_those_of_the_process_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
    with pytest.raises(RuntimeError, match="there is no process group"):
        DistributedSampler(range(5))
    distributed.init_process_group()
    sampler = DistributedSampler(range(5), shuffle=False)
    distributed.destroy_process_group()
    assert (sampler.num_replicas, sampler.rank, list(sampler)) == (1, 0, [0, 1, 2, 3, 4])
    assert utils_data.distributed.DistributedSampler is DistributedSampler


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((2, 2), {}, r"DistributedSampler: rank must be from 0 to 1, got 2"),
        ((2, -1), {}, "rank must be from 0 to 1, got -1"),
        ((0, 0), {}, "num_replicas must be at least 1, got 0"),
        ((2, 0), {"seed": -1}, "seed must be"),
        ((2, 0), {"drop_last": True, "pad": False}, "drop_last drops samples"),
    ],
)
def test_bad_arguments_are_named(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistributedSampler(range(5), *arguments, **options)


# A loader's state over ranks ------------------------------------------------------------------


def loaders(count: int, ranks: int, batch_size: int, **options: Any) -> list[DataLoader]:
    data = np.arange(count)
    return [DataLoader(data, batch_size, sampler=each) for each in shares(count, ranks, **options)]


def visited(passes: list[Any], batches: int | None = None) -> list[int]:
    """What the ranks visit together, batch by batch."""
    numbers: list[int] = []
    for _, together in zip(range(batches or 1000), zip(*passes, strict=True), strict=False):
        numbers += [int(n) for batch in together for n in batch.numpy()]
    return numbers


@pytest.mark.parametrize(("ranks", "batch_size"), [(4, 2), (1, 8), (2, 4), (8, 1), (3, 5), (2, 3)])
def test_an_epoch_goes_on_with_another_number_of_ranks(ranks: int, batch_size: int) -> None:
    before = loaders(48, 2, 4, seed=5)
    done = visited([iter(each) for each in before], 3)
    states = [each.state_dict() for each in before]
    assert states[0] == states[1]
    assert states[0]["position"] == 24 == len(done)
    after = loaders(48, ranks, batch_size, seed=5)
    for each in after:
        each.load_state_dict(states[0])
    rest = visited(after)
    assert sorted(done + rest) == list(range(48))
    assert sorted(visited(after)) == list(range(48))  # the next epoch is whole again
    one = DistributedSampler(range(48), 1, 0, seed=5)
    assert sorted(list(one)[24:]) == sorted(rest)


def test_the_same_ranks_go_on_with_the_same_batches() -> None:
    whole = loaders(50, 4, 3, seed=1)
    passes = [iter(each) for each in whole]
    visited(passes, 2)
    states = [each.state_dict() for each in whole]
    again = loaders(50, 4, 3, seed=1)
    for each, state in zip(again, states, strict=True):
        each.load_state_dict(state)
        assert each.state_dict() == state
    assert visited(again) == visited(passes)
    assert again[0].state_dict() == whole[0].state_dict()
    assert again[0].epoch == 1


def test_state_at_the_end_of_an_epoch_is_the_start_of_the_next() -> None:
    for options in ({}, {"drop_last": True}, {"pad": False}):
        group = loaders(10, 2, 2, **options)
        for each in group:
            passing = iter(each)
            for _ in range(len(each)):
                next(passing)
        states = [each.state_dict() for each in group]
        assert [(s["epoch"], s["position"]) for s in states] == [(1, 0)] * 2, options


def test_the_loader_counts_epochs_and_the_sampler_may_choose_them() -> None:
    sampler = DistributedSampler(np.arange(20), 2, 0)
    loader = DataLoader(np.arange(20), 3, sampler=sampler)
    orders = []
    for epoch in (0, 1, 0, 0, 5):  # as torch's scripts do
        sampler.set_epoch(epoch)
        orders.append(visited([loader]))
        assert orders[-1] == list(sampler)
    assert orders[0] == orders[2] == orders[3] != orders[1] != orders[4]
    assert loader.epoch == 6
    assert visited([loader]) not in orders  # without a call, the next
    # A script that loads a state and then says the same epoch goes on in its middle.
    passing = iter(loader)
    next(passing)
    state = loader.state_dict()
    rest = visited([passing])
    loader.load_state_dict(state)
    sampler.set_epoch(state["epoch"])
    assert visited([loader]) == rest
    loader.load_state_dict(state)
    sampler.set_epoch(0)
    assert visited([loader]) == orders[0]


def test_batch_samplers_and_workers_count_samples_too() -> None:
    for workers in (0, 2):
        sampler = DistributedSampler(np.arange(24), 2, 1, seed=2)
        loader = DataLoader(
            np.arange(24), batch_sampler=BatchSampler(sampler, 3, False), num_workers=workers
        )
        passing = iter(loader)
        next(passing)
        assert loader.state_dict()["position"] == 6
        rest = visited([passing])
        state = {**loader.state_dict(), "epoch": 0, "position": 6}
        loader.load_state_dict(state)
        assert visited([loader]) == rest


@pytest.mark.parametrize(
    ("change", "match"),
    [({"samples": 49}, "samples=49"), ({"seed": 6}, "seed=6"), ({"position": 49}, r"\[0, 48\]"),
     ({"batch_size": 4}, "batch_size=4")],
)  # fmt: skip
def test_states_of_other_orders_are_refused(change: dict[str, Any], match: str) -> None:
    (loader,) = loaders(48, 1, 4, seed=5)
    with pytest.raises(CheckpointError, match=match):
        loader.load_state_dict({**loader.state_dict(), **change})
