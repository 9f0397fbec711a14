"""The model by which bench.distributed predicts steps on many ranks."""

from __future__ import annotations

import pytest

from bench.distributed import LINKS, PREDICTED, Costs, Profile, fitted

COSTS = Costs(alpha=20e-6, beta=0.3e-9, gamma=0.1e-9)


def test_costs_are_found_again_in_the_times_of_all_reduces() -> None:
    byte = COSTS.beta + COSTS.gamma
    messages = [(size, COSTS.alpha + size * byte) for size in (4, 4096, 2**20, 2**24)]
    found = fitted(messages, COSTS.gamma)
    assert found.alpha == pytest.approx(COSTS.alpha, rel=1e-3)
    assert found.beta == pytest.approx(COSTS.beta, rel=1e-3)


def test_an_all_reduce_takes_the_cheaper_algorithm() -> None:
    assert COSTS.all_reduce(1, 2**20) == 0
    # Short messages: one hop a doubling. Long ones: every byte is sent twice at most, however many.
    assert COSTS.all_reduce(1024, 4) == pytest.approx(10 * COSTS.alpha, rel=1e-4)
    bound = 20 * COSTS.alpha + 2**30 * (2 * COSTS.beta + COSTS.gamma)
    assert 0.99 * bound < COSTS.all_reduce(1024, 2**30) < bound
    slow, fast = (COSTS.on(link) for link in LINKS)
    for ranks in PREDICTED:
        assert slow.all_reduce(ranks, 2**20) > fast.all_reduce(ranks, 2**20)


def test_a_step_is_longer_by_what_does_not_fit_into_the_backward_pass() -> None:
    size = 2**20
    one = COSTS.all_reduce(4, size)
    early = Profile(0.01, 0.03, 0.001, ((0.01, size), (0.012, size)))
    assert early.step(4, COSTS) == pytest.approx(0.031)  # hidden
    late = Profile(0.01, 0.03, 0.001, ((0.03 - one / 2, size), (0.03, size)))
    assert late.step(4, COSTS) == pytest.approx(0.031 + 1.5 * one)  # one after the other
    assert late.scaled(0.0155).step(1, COSTS) == pytest.approx(0.0155)


def test_a_profile_is_the_measured_step_without_its_exchange() -> None:
    # Backward seems to end at 35 ms, 5 of which it waits for the last exchange.
    job = {"ends": [0.01, 0.035, 0.036], "exchanges": [[100, 0.02, 0.022], [200, 0.03, 0.035]],
           "compute": 0.031}  # fmt: skip
    profile = Profile.of(job)
    assert profile.backward + profile.optimizer == pytest.approx(job["compute"])
    assert [size for _, size in profile.exchanges] == [100, 200]
    assert profile.exchanges[0][0] < profile.exchanges[1][0] <= profile.backward
