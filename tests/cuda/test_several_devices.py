"""Several GPUs: which one is current, where tensors live, and how they travel."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.runtime.cuda.capture import recorded
from minigrad.runtime.cuda.driver import driver
from minigrad.runtime.cuda.table import upload


@pytest.fixture(autouse=True)
def _first_is_current(_needs_cuda) -> Iterator[None]:
    if mg.cuda.device_count() < 2:
        pytest.skip("there is only one GPU; MINIGRAD_EMULATED_GPU=1 emulates two")
    yield
    mg.cuda.set_device(0)


# The current device -----------------------------------------------------------------------------


def test_cuda_is_the_current_device() -> None:
    mg.cuda.set_device(1)
    assert mg.cuda.current_device() == 1
    assert mg.zeros(2, device="cuda").device == "cuda:1"
    assert mg.zeros(2).cuda().device == mg.zeros(2).to(1).device == "cuda:1"
    assert mg.zeros(2, device=mg.Device("cuda")).device == mg.Device("cuda", 1)
    assert mg.zeros(2, device="cuda:0").device == mg.zeros(2).cuda(0).device == "cuda:0"


def test_the_current_device_is_each_threads_own() -> None:
    found = []
    mg.cuda.set_device(1)
    thread = threading.Thread(target=lambda: found.append(mg.ones(2, device="cuda") * 2))
    thread.start()
    thread.join()
    assert found[0].device == "cuda:0"
    assert found[0].tolist() == [2, 2]
    assert mg.cuda.current_device() == 1


def test_a_block_of_code_has_a_device_of_its_own() -> None:
    with mg.cuda.device("cuda:1"):
        assert mg.zeros(2, device="cuda").device == "cuda:1"
        with mg.cuda.device(0):
            assert mg.cuda.current_device() == 0
        with mg.cuda.device(None):
            assert mg.cuda.current_device() == 1
    assert mg.cuda.current_device() == 0
    with pytest.raises(KeyError), mg.cuda.device(1):
        raise KeyError
    assert mg.cuda.current_device() == 0


def test_the_default_device_follows_the_current_one() -> None:
    before = mg.get_default_device()
    mg.set_default_device("cuda")
    try:
        mg.cuda.set_device(1)
        assert mg.zeros(2).device == mg.get_default_device() == "cuda:1"
    finally:
        mg.set_default_device(before)


def test_a_device_that_is_not_there_is_refused() -> None:
    count = mg.cuda.device_count()
    for use in (
        lambda: mg.zeros(2, device=f"cuda:{count}"),
        lambda: mg.cuda.set_device(count),
        lambda: mg.cuda.memory_allocated(count),
    ):
        with pytest.raises(mg.DeviceError, match=f"cuda:{count}: the driver sees {count} devices"):
            use()
    with pytest.raises(mg.DeviceError, match="expected a GPU, got cpu"):
        mg.cuda.set_device("cpu")
    assert mg.cuda.current_device() == 0


# Where work is done -----------------------------------------------------------------------------


def test_operations_run_where_their_tensors_are() -> None:
    x = mg.tensor([[1.0, -2.0], [3.0, 4.0]], device="cuda:1", requires_grad=True)
    loss = (F.relu(x @ x.T) + mg.arange(2.0, device="cuda:1")).sum()
    loss.backward()
    assert loss.device == x.grad.device == "cuda:1"
    host = x.detach().cpu().requires_grad_()
    (F.relu(host @ host.T) + mg.arange(2.0)).sum().backward()
    np.testing.assert_allclose(x.grad.cpu().numpy(), host.grad.numpy())


def test_random_numbers_do_not_depend_on_the_device() -> None:
    drawn = []
    for device in ("cuda:0", "cuda:1"):
        mg.manual_seed(3)
        mask = F.dropout(mg.ones(5, device=device))
        drawn.append([mg.randn(7, device=device).tolist(), mask.tolist()])
    assert drawn[0] == drawn[1]


def test_a_network_trains_on_the_second_device() -> None:
    losses = []
    for device in ("cuda:0", "cuda:1"):
        mg.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).to(device)
        optimizer = mg.optim.Adam(model.parameters(), lr=0.1)
        x, y = mg.randn(4, 3, device=device), mg.tensor([0, 1, 1, 0], device=device)
        for _ in range(3):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == losses[1]


def test_tensors_on_two_devices_are_refused_by_name() -> None:
    x, y = mg.ones(2, 2, device="cuda:0"), mg.ones(2, 2, device="cuda:1")
    for name, operation in (
        ("add", lambda: x + y), ("matmul", lambda: x @ y), ("linear", lambda: F.linear(x, y)),
        ("backward", lambda: (x.detach().requires_grad_() * 2).backward(y)),
    ):  # fmt: skip
        with pytest.raises(mg.DeviceError, match=f"{name}: .*one device.*cuda:0.*cuda:1"):
            operation()


def test_a_launch_on_two_devices_is_refused() -> None:
    """Whatever the public functions may have overlooked."""
    from minigrad.kernels import cuda

    x, y = mg.ones(4, device="cuda:0"), mg.ones(4, device="cuda:1")
    with pytest.raises(mg.DeviceError, match=r"one device, got tensors on cuda:0, cuda:1"):
        cuda.elementwise.add_forward(x.array, x.array, y.array, 1.0)
    assert x.tolist() == y.tolist() == [1, 1, 1, 1]


# Copies -----------------------------------------------------------------------------------------


def test_a_copy_to_another_device_is_in_order_with_the_work_of_both() -> None:
    x = mg.full((1000,), 1.0, device="cuda:0")
    for _ in range(3):
        x = (x + 1).to("cuda:1") * 2
        assert x.device == "cuda:1"
        y = x.to("cuda:0")
        del x
        x = y - 1  # blocks of both devices are used again at once
    assert x.device == "cuda:0"
    assert set(x.tolist()) == {15.0}


def test_copies_keep_memory_order_and_convert() -> None:
    values = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
    x = mg.tensor(values, device="cuda:0").transpose(0, 2)
    there = x.to("cuda:1", mg.int64)
    assert (there.stride(), there.dtype) == (x.stride(), mg.int64)
    np.testing.assert_array_equal(there.cpu().numpy(), values.T)
    np.testing.assert_array_equal(x[::2].to("cuda:1").cpu().numpy(), values.T[::2])


def test_gradients_flow_back_to_the_device_they_belong_to() -> None:
    x = mg.tensor([1.0, 2.0], device="cuda:0", requires_grad=True)
    (x * 3).to("cuda:1").square().sum().backward()
    assert x.grad.device == "cuda:0"
    assert x.grad.tolist() == [18.0, 36.0]


def test_a_module_and_its_optimizer_state_move() -> None:
    model = nn.Linear(2, 2).to("cuda:0")
    model(mg.ones(1, 2, device="cuda:0")).sum().backward()
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.step()
    weight = model.weight.cpu().tolist()
    model.to("cuda:1")
    assert {t.device for p in model.parameters() for t in (p, p.grad)} == {mg.Device("cuda:1")}
    assert model.weight.tolist() == weight
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    assert model.weight.tolist() != weight


def test_values_are_copied_in_place_from_another_device() -> None:
    x, y = mg.zeros(3, device="cuda:1"), mg.arange(3.0, device="cuda:0")
    x.copy_(y)
    assert x.tolist() == [0, 1, 2]


def test_a_tensor_is_copied_and_pickled_with_its_device() -> None:
    x = mg.ones(2, device="cuda:1")
    assert copy.deepcopy(x).device == "cuda:1"
    assert pickle.loads(pickle.dumps(x.device)) == x.device
    assert repr(x) == "tensor([1., 1.], device='cuda:1')"


def test_dlpack_tells_the_device() -> None:
    x = mg.arange(3.0, device="cuda:1")
    y = mg.from_dlpack(x)
    assert (x.__dlpack_device__(), y.device) == ((2, 1), "cuda:1")
    y.fill_(4)
    assert x.tolist() == [4, 4, 4]


# What each device has of its own ----------------------------------------------------------------


def test_figures_are_each_devices_own() -> None:
    gc.collect()
    before = [mg.cuda.memory_allocated(index) for index in (0, 1)]
    x = mg.zeros(1000, device="cuda:1")
    assert [mg.cuda.memory_allocated(index) for index in (0, 1)] == [before[0], before[1] + 4000]
    del x
    assert mg.cuda.memory_allocated("cuda:1") == before[1]
    assert mg.cuda.get_device_capability(1) == driver(1).compute_capability


def test_value_checks_are_reported_by_their_device() -> None:
    x = mg.arange(4.0, device="cuda:1")
    x[mg.tensor([1, 9], device="cuda:1")]
    mg.cuda.synchronize()
    with pytest.raises(mg.TargetError, match="index 9 is out of range"):
        mg.cuda.synchronize(1)


def test_streams_belong_to_a_device() -> None:
    side, own = mg.cuda.Stream(device=1), mg.cuda.current_stream(0)
    with mg.cuda.stream(side):
        assert mg.cuda.current_stream() == mg.cuda.current_stream(1) == side
        assert mg.cuda.current_stream(0) == own
        y = mg.ones(2, device="cuda") * 3
    assert y.device == "cuda:1"
    assert (y + 1).tolist() == [4, 4]


def test_a_step_is_captured_on_the_device_of_its_arguments() -> None:
    step = mg.capture(lambda x: F.dropout(x, 0.5).sum() + x[0])
    results = []
    for device in ("cuda:0", "cuda:1"):
        mg.manual_seed(1)
        results.append([step(mg.full((6,), k + 1.0, device=device)).item() for k in range(5)])
    assert results[0] == results[1]


def test_a_captured_step_stays_on_one_device() -> None:
    x, y = mg.ones(2, device="cuda:0"), mg.ones(2, device="cuda:1")
    with pytest.raises(mg.DeviceError, match=r"capture: .*cuda:0.*cuda:1"):
        mg.capture(lambda x, y: x + 1)(x, y)
    for act in (lambda: y + 1, lambda: x.to("cuda:1"), lambda: y.to("cuda:0")):
        step = mg.capture(lambda x, act=act: act())
        step(x), step(x)
        with pytest.raises(mg.GraphError, match="must stay on one device"):
            step(x)
    assert (x + 1).tolist() == (y + 1).tolist() == [2, 2]


def test_one_device_works_while_a_step_is_recorded_on_another() -> None:
    done: list[list[float]] = []

    def other() -> None:
        done.append((mg.ones(2, device="cuda:1") + 1).tolist())

    def run() -> None:
        upload(np.arange(3.0), lambda: np.arange(3.0))
        if driver(0).capturing:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join(timeout=20)

    recorded(run)
    assert done == [[2, 2]]
