"""GPU memory shared with other libraries."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import minigrad as mg
from minigrad.ops import exchange
from minigrad.runtime.cuda.capture import Graph
from minigrad.runtime.cuda.driver import driver
from minigrad.testing import ptx


def test_dlpack_shares_memory_there_and_back() -> None:
    x = mg.arange(12.0, device="cuda").reshape(3, 4).transpose(0, 1)
    y = mg.from_dlpack(x)
    assert (y.shape, y.stride(), y.device) == (x.shape, x.stride(), x.device)
    y.fill_(2)
    assert x.sum().item() == 24


def test_a_capsule_gives_back_what_it_lends() -> None:
    x = mg.arange(4.0, device="cuda")
    before = len(exchange._lent)
    capsule = x.__dlpack__()
    assert len(exchange._lent) == before + 1
    del capsule
    gc.collect()
    assert len(exchange._lent) == before
    y = mg.from_dlpack(x)
    del y
    gc.collect()
    assert len(exchange._lent) == before


def test_memory_goes_back_after_the_gpu_is_done_with_it(monkeypatch) -> None:
    x = mg.arange(4.0, device="cuda")
    seen = []

    def waits(name: str) -> Any:
        wait = getattr(driver(), name)

        def spied() -> bool:
            seen.append((name, len(exchange._lent), owner() is not None))
            return wait()

        return spied

    names = ["wait_unless_recorded", "wait_for_all_unless_recorded"]
    for name in names:
        monkeypatch.setattr(driver(), name, waits(name))
    owner = weakref.ref(x.array.owner)
    before = len(exchange._lent)
    y = mg.from_dlpack(x)
    del x
    y.fill_(3)
    del y
    gc.collect()
    # First ours waits for its own stream, while it still has the memory; then the lender for all.
    assert seen == [(names[0], before + 1, True), (names[1], before, True)]
    assert owner() is None


def test_memory_that_comes_back_during_a_recording_is_kept_until_later() -> None:
    x = mg.arange(4.0, device="cuda")
    owner, kept = weakref.ref(x.array.owner), [mg.from_dlpack(x)]
    del x
    graph = Graph()
    with graph.record():
        kept.clear()
        assert owner() is not None
    assert owner() is not None
    mg.from_dlpack(mg.ones(1, device="cuda"))  # comes back at once
    assert owner() is None


def test_a_recording_on_borrowed_memory_that_is_gone_is_not_replayed() -> None:
    owner = mg.ones(2, device="cuda")
    lent = [mg.from_dlpack(owner)]
    step = mg.capture(lambda x: x + lent[0])
    x = mg.zeros(2, device="cuda")
    assert [step(x).tolist() for _ in range(4)] == [[1, 1]] * 4
    lent[0] = mg.from_dlpack(mg.ones(2, device="cuda") * 5)
    assert step(x).tolist() == [5, 5]


def test_cuda_array_interface_describes_the_memory() -> None:
    x = mg.zeros(2, 3, device="cuda")
    interface = x.__cuda_array_interface__
    assert interface["shape"] == (2, 3)
    assert interface["data"] == (x.array.pointer, False)
    assert interface["typestr"] == "<f4"


def test_a_tensor_in_the_graph_is_refused() -> None:
    x = mg.zeros(2, device="cuda", requires_grad=True)
    with pytest.raises(mg.GraphError, match="detach"):
        x.__dlpack__()
    assert not hasattr(mg.zeros(2), "__cuda_array_interface__")


@pytest.mark.skipif(ptx.installed(), reason="torch reads the memory of real GPUs only")
def test_torch_shares_memory() -> None:
    torch = pytest.importorskip("torch")
    x = mg.zeros(3, device="cuda")
    torch.from_dlpack(x).fill_(5)
    torch.cuda.synchronize()
    assert x.tolist() == [5, 5, 5]
    assert mg.from_dlpack(torch.ones(2, device="cuda")).tolist() == [1, 1]
