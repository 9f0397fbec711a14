"""GPU memory shared with other libraries."""

from __future__ import annotations

import gc
import os

import pytest

import minigrad as mg
from minigrad.ops import exchange

_SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0"


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


def test_cuda_array_interface_describes_the_memory() -> None:
    x = mg.zeros(2, 3, device="cuda")
    interface = x.__cuda_array_interface__
    assert interface["shape"] == (2, 3)
    assert interface["data"] == (x.data.pointer, False)
    assert interface["typestr"] == "<f4"


def test_a_tensor_in_the_graph_is_refused() -> None:
    x = mg.zeros(2, device="cuda", requires_grad=True)
    with pytest.raises(mg.GraphError, match="detach"):
        x.__dlpack__()
    assert not hasattr(mg.zeros(2), "__cuda_array_interface__")


@pytest.mark.skipif(_SIMULATED, reason="torch reads the memory of real GPUs only")
def test_torch_shares_memory() -> None:
    torch = pytest.importorskip("torch")
    x = mg.zeros(3, device="cuda")
    torch.from_dlpack(x).fill_(5)
    torch.cuda.synchronize()
    assert x.tolist() == [5, 5, 5]
    assert mg.from_dlpack(torch.ones(2, device="cuda")).tolist() == [1, 1]
