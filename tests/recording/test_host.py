"""Recordings of the host's work: how they run, what memory they take, and what they refuse."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim, runtime
from minigrad.kernels import cpu
from minigrad.kernels.cpu._table import identities
from minigrad.recording.arena import arranged
from minigrad.recording.placeholder import Placeholder


def _network(width: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU6(),
        nn.Dropout(0.2), nn.Flatten(), nn.Linear(width * 16, 5),
    )  # fmt: skip


def _step(model: nn.Module, **options: Any) -> Any:
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, **options)

    def step(images: mg.Tensor, labels: mg.Tensor) -> mg.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _batches(count: int) -> list[tuple[mg.Tensor, mg.Tensor]]:
    draw = np.random.default_rng(0)
    return [
        (mg.tensor(draw.standard_normal((4, 3, 8, 8)).astype("f4")),
         mg.tensor(draw.integers(0, 5, 4)))
        for _ in range(count)
    ]  # fmt: skip


def _parts(step: Any) -> list[str]:
    """What a replay calls: machine code is a function without a name."""
    (recording,) = step._recordings.values()
    return [getattr(call[0], "__name__", "") for call in recording._graph._program._steps]


def test_inference_is_one_call_of_machine_code() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    step = mg.capture(model)
    with mg.no_grad():
        for value in range(5):
            x = mg.full((1, 4), float(value))
            assert step(x).tolist() == model(x).tolist()
    assert _parts(step) == [""]


def test_a_training_step_calls_python_only_where_numbers_or_values_are_of_the_host() -> None:
    step = mg.capture(_step(_network()))
    for batch in _batches(4):
        step(*batch)
    names = {name for name in _parts(step) if name}
    # Copies from one memory order to another, and Winograd's algorithm, which looks for infinities.
    names -= {"_assign", "conv2d_backward_weight"}
    assert names == {"_anew", "dropout_forward", "_check_rows", "loss_total", "sgd_update"}


def test_threads_may_be_changed_between_replays() -> None:
    def losses(capture: bool) -> list[float]:
        mg.manual_seed(0)
        step = _step(_network(32))
        run, found = mg.capture(step) if capture else step, []
        for threads, batch in zip((1, 1, 2, 1, 2, 2), _batches(6), strict=True):
            mg.set_num_threads(threads)
            found.append(run(*batch).item())
        return found

    before = mg.get_num_threads()
    try:
        assert losses(True) == losses(False)
    finally:
        mg.set_num_threads(before)


def test_state_dicts_and_modes_of_a_module_are_those_at_the_recording() -> None:
    model = _network().eval()
    step = mg.capture(model)
    (x, _), (y, _) = _batches(2)
    with mg.no_grad():
        for _ in range(3):
            step(x)
        model.load_state_dict(_network().state_dict())
        np.testing.assert_array_equal(step(y).numpy(), model(y).numpy())


def test_what_a_step_keeps_elsewhere_is_an_ordinary_tensor() -> None:
    kept: list[mg.Tensor] = []

    @mg.capture
    def step(x: mg.Tensor) -> mg.Tensor:
        kept[:] = [x * 2]
        return kept[0] + 1

    for value in range(4):
        assert step(mg.full((300,), float(value))).tolist() == [2.0 * value + 1] * 300
    assert (kept[0] - 1).tolist() == [5.0] * 300
    assert kept[0].sum().item() == 1800
    assert kept[0][3].item() == 6
    assert np.exp(kept[0].numpy()).shape == (300,)
    kept[0].mul_(2)[0] = 7
    assert kept[0].tolist() == [7.0] + [12.0] * 299
    assert isinstance(kept[0].array, Placeholder)  # only what is returned is changed into others


def test_a_failed_recording_changes_no_buffer_and_no_parameter() -> None:
    model, fail = _network(), [False]
    train = _step(model)

    def step(images: mg.Tensor, labels: mg.Tensor) -> None:
        train(images, labels)
        if fail[0]:
            raise KeyError("no")

    run = mg.capture(step)
    batches = _batches(4)
    run(*batches[0]), run(*batches[1])
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    fail[0] = True
    with pytest.raises(KeyError):
        run(*batches[2])
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)
    fail[0] = False
    run(*batches[2]), run(*batches[3])
    assert model.state_dict()["1.num_batches_tracked"].item() == 4


READING = {
    "numpy": lambda x: x.numpy(),
    "ufunc": np.exp,
    "list": lambda x: x.tolist(),
    "branch": lambda x: 1 if x.sum() > 0 else 0,
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "index": lambda x: x[x.argmax()],
    "array": lambda x: mg.from_numpy(np.ones(3, np.float32)) + x,
    "number": lambda x: x + mg.tensor(1.5),
    "print": repr,
}


@pytest.mark.parametrize("act", READING.values(), ids=READING)
def test_what_depends_on_values_of_the_host_is_refused(act: Any) -> None:
    step = mg.capture(act)
    x = mg.tensor([1.0, 2, 3])
    step(x), step(x)
    for _ in range(2):
        with pytest.raises(mg.GraphError, match="captured step"):
            step(x)


@pytest.mark.parametrize(
    "ask", [lambda array: identities([array]), lambda array: array.ctypes.data]
)
def test_a_launcher_that_asks_for_an_address_is_called_at_every_replay(ask, monkeypatch) -> None:
    seen: list[int] = []
    launcher = cpu.unary.relu_forward

    def asking(out: np.ndarray, input: np.ndarray) -> None:
        seen.append(ask(out))
        launcher(out, input)

    monkeypatch.setattr(cpu.unary, "relu_forward", asking)
    run = mg.capture(F.relu)
    assert [run(mg.tensor([-1.0, k])).tolist() for k in range(5)] == [[0, k] for k in range(5)]
    assert _parts(run)[0] == "asking"
    assert len(seen) == 5


def test_another_threads_work_is_done_at_once() -> None:
    found: list[float] = []

    def work() -> None:
        found.append((mg.ones(5000) * 2).sum().item())

    def step(x: mg.Tensor) -> mg.Tensor:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return x * 3

    run = mg.capture(step)
    for value in range(4):
        assert run(mg.full((2,), float(value))).tolist() == [3.0 * value] * 2
    assert found == [10000.0] * 3


def test_recordings_of_two_threads_do_not_meet() -> None:
    meet, results = threading.Barrier(2, timeout=60), {}

    def train(factor: float) -> None:
        def step(x: mg.Tensor) -> mg.Tensor:
            meet.wait()
            y = F.relu(x * factor)
            meet.wait()
            return y + 1

        run = mg.capture(step)
        for value in range(3):
            results[factor] = run(mg.full((2000,), float(value))).tolist()

    threads = [threading.Thread(target=train, args=(factor,)) for factor in (2.0, 3.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {2.0: [5.0] * 2000, 3.0: [7.0] * 2000}


def test_a_bad_value_ends_a_replay_where_it_ends_the_step() -> None:
    def run(capture: bool, bad_call: int) -> list[Any]:
        mg.manual_seed(1)
        model = nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 3))
        optimizer = optim.Adam(model.parameters(), lr=0.1)

        def step(x: mg.Tensor, y: mg.Tensor) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

        call, seen = mg.capture(step) if capture else step, []
        for number in range(6):
            labels = mg.tensor([0, 7 if number == bad_call else 1])
            try:
                call(mg.ones(2, 3), labels)
            except mg.TargetError as error:
                seen.append(str(error))
            seen += [state["step"] for state in optimizer.state.values()]
            seen += [p.tolist() for p in model.parameters()]
        return seen

    for bad_call in (2, 4):  # the call that records, and a replay
        assert run(True, bad_call) == run(False, bad_call)


def test_threads_that_share_a_captured_step_take_turns() -> None:
    step = mg.capture(lambda x: (x * 2 + 1).sum())
    for _ in range(3):
        step(mg.zeros(3000))
    start = threading.Barrier(4, timeout=60)

    def call() -> None:
        start.wait()
        for _ in range(200):
            step(mg.ones(3000))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert step(mg.ones(3000)).item() == 9000


# Memory -----------------------------------------------------------------------------------------


def test_replays_take_no_more_memory_than_the_step_and_give_it_back() -> None:
    def peak(run: Any) -> int:
        for batch in batches[:3]:
            run(*batch)
        runtime.reset_peak_memory_stats()
        for batch in batches:
            run(*batch)
        return runtime.max_memory_allocated()

    batches = _batches(6)
    gc.collect()
    start = runtime.memory_allocated()
    step = _step(_network(64))
    eager = peak(step)
    between = runtime.memory_allocated()
    run = mg.capture(step)
    # The arguments have copies, and arrays below 3 KiB, which eager steps do not count, are there.
    assert peak(run) <= eager + (1 << 14)
    del run
    gc.collect()
    assert runtime.memory_allocated() == between
    del step
    gc.collect()
    assert runtime.memory_allocated() == start


_INTERVALS = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 9), st.integers(0, 5)), max_size=30
)


@given(_INTERVALS)
def test_arrays_in_use_at_one_time_do_not_overlap(drawn: list[tuple[int, int, int]]) -> None:
    sizes, begins, lengths = ([item[i] for item in drawn] for i in range(3))
    ends = [begin + length for begin, length in zip(begins, lengths, strict=True)]
    offsets, total = arranged(sizes, begins, ends)
    for i in range(len(drawn)):
        assert offsets[i] % 64 == 0
        assert offsets[i] + sizes[i] <= total
        for j in range(i):
            if begins[i] < ends[j] and begins[j] < ends[i] and sizes[i] and sizes[j]:
                assert offsets[i] + sizes[i] <= offsets[j] or offsets[j] + sizes[j] <= offsets[i]


def test_arrays_in_use_one_after_the_other_share_a_place() -> None:
    assert arranged([64, 128, 64], [0, 1, 2], [1, 2, 3]) == ([0, 0, 0], 128)
    assert arranged([], [], []) == ([], 0)
