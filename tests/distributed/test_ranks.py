"""Programs on several ranks, each of which asserts what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("ranks", [0, 1, 2, 3, 4])
def test_collectives_equal_numpy(passes: Callable[..., str], ranks: int) -> None:
    passes("collectives", ranks)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_data_parallel_equals_one_process_on_the_whole_batch(
    passes: Callable[..., str], ranks: int
) -> None:
    passes("data_parallel", ranks)


def test_shards_give_the_same_bits_for_any_number_of_ranks_and_through_a_resume(
    passes: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    one = passes("reproducible", 0, path, 0, 6).splitlines()
    for ranks in (2, 8):
        assert passes("reproducible", ranks, path, 0, 6).splitlines() == one
    begun = passes("reproducible", 4, path, 0, 3).splitlines()
    assert begun[:-1] == one[:3]
    assert passes("reproducible", 3, path, 3, 6).splitlines() == one[3:]


def test_bad_use_is_one_clear_error_on_every_rank(passes: Callable[..., str]) -> None:
    passes("bad_use", 2)


@pytest.mark.parametrize("how", ["killed", "killed in backward"])
def test_a_killed_rank_ends_the_others(launch: Callable[..., Any], how: str) -> None:
    done = launch("faults", 3, how)
    assert done.returncode != 0
    assert "KILLED" in (done.stdout + done.stderr).upper()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("exception", "rank 1 of 3 ends all ranks"),
        ("early", "rank 1: destroy_process_group()"),
        ("late", "not all ranks took part within 0:00:01"),
        ("everywhere", "rank 0"),
    ],
)
def test_what_ends_one_rank_is_shown_once_and_ends_all(
    launch: Callable[..., Any], how: str, message: str
) -> None:
    done = launch("faults", 3, how)
    assert done.returncode != 0
    assert message in done.stderr
    if how != "late":  # where each of two ranks has waited for the third
        assert done.stderr.count("Traceback") == 1, done.stderr
