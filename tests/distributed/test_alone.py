"""What needs no second process: the tree of sums, the cut into shards, and a group of one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.distributed as dist
from minigrad.device import CPU
from minigrad.distributed import tree
from minigrad.distributed.mpi import connect


@given(st.integers(1, 40), st.data())
def test_a_tree_sum_has_the_same_bits_however_its_terms_are_dealt_out(
    shards: int, data: st.DataObject
) -> None:
    terms = np.random.default_rng(shards).standard_normal((shards, 3)).astype(np.float32)
    whole = tree.Terms(shards, CPU)
    for shard, term in enumerate(terms):
        whole.push((shard, shard + 1), term.copy())
    W = data.draw(st.integers(1, shards))
    upper = tree.Terms(shards, CPU)
    for rank in range(W):
        low, high = tree.cut(shards, W, rank)
        part = tree.Terms(shards, CPU)
        for shard in range(low, high):
            part.push((shard, shard + 1), terms[shard].copy())
        assert tuple(part.nodes) == tree.subtrees(shards, low, high)
        for node, vector in zip(part.nodes, part.vectors, strict=True):
            upper.push(node, vector)
    assert upper.nodes == whole.nodes == [(0, shards)]
    assert upper.vectors[0].tobytes() == whole.vectors[0].tobytes()
    np.testing.assert_allclose(whole.vectors[0], terms.sum(0, dtype=np.float64), atol=1e-5)


@given(st.integers(0, 100), st.integers(1, 20), st.data())
def test_the_ranks_of_shard_range_have_all_samples_in_order(
    length: int, shards: int, data: st.DataObject
) -> None:
    W = data.draw(st.integers(1, shards))
    ranges = [dist.shard_range(length, shards, rank, W) for rank in range(W)]
    assert [n for start, stop in ranges for n in range(start, stop)] == list(range(length))


def test_shard_range_refuses_more_ranks_than_shards() -> None:
    with pytest.raises(ValueError, match="shard_range: shards must be"):
        dist.shard_range(8, 2, 0, 3)


def test_distributed_is_light_and_needs_no_mpi4py() -> None:
    code = (
        "import minigrad.distributed as d, sys; d.init_process_group(); assert d.get_rank() == 0;"
    )
    code += "assert not {'mpi4py', 'numba'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "WORLD_SIZE"])
def test_processes_that_mpi_does_not_connect_are_no_group(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip("mpi4py")
    code = "import minigrad.distributed as d; d.init_process_group()"
    monkeypatch.setenv(name, "3")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "3 processes were started, but mpi4py sees 1" in done.stderr


def test_without_mpi4py_several_processes_are_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(mg.DistributedError, match=r"pip install 'minigrad\[mpi\]'"):
        connect()
