"""Recordings among other things that go on: errors, streams, other threads, value checks."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.runtime.cuda import memory, table, turn
from minigrad.runtime.cuda.capture import recorded
from minigrad.runtime.cuda.driver import driver
from minigrad.testing import ptx


def test_an_error_at_the_end_of_a_recording_leaves_nothing_behind(monkeypatch) -> None:
    x = mg.zeros(2, 3, device="cuda")
    bad = mg.tensor([0, 5], device="cuda")
    end, fail = driver().end_capture, [True]

    def failing() -> Any:
        graph = end()
        if fail[0]:
            driver().free_graph(graph)
            raise mg.DeviceError("cuGraphInstantiate failed")
        return graph

    monkeypatch.setattr(driver(), "end_capture", failing)
    step = mg.capture(lambda x, y: F.cross_entropy(x, y))
    good = mg.tensor([0, 1], device="cuda")
    step(x, good), step(x, good)
    with pytest.raises(mg.DeviceError, match="Instantiate"):
        step(x, bad)
    mg.cuda.synchronize()  # the bad value was never looked at
    assert not driver().capturing
    fail[0] = False
    assert step(x, good).item() == pytest.approx(np.log(3))


def test_a_recording_takes_place_on_our_own_stream() -> None:
    own, seen = driver().stream, []

    def run() -> None:
        seen.append(driver().stream)

    with mg.cuda.stream(mg.cuda.Stream()):
        theirs = driver().stream
        recorded(run)
        assert driver().stream == theirs
    assert seen == [theirs, theirs, own]


def test_another_threads_work_is_not_recorded() -> None:
    count = mg.zeros(1, device="cuda")
    threads: list[threading.Thread] = []

    def work() -> None:
        count.add_(1)

    def run() -> None:
        if driver().capturing:
            threads.append(threading.Thread(target=work))
            threads[0].start()
            threads[0].join(timeout=0.3)  # it waits until the recording is done

    graph = recorded(run)
    threads[0].join()
    for _ in range(3):
        graph.replay()
    assert count.tolist() == [1]


def test_a_recording_that_waits_for_another_thread_ends(monkeypatch) -> None:
    monkeypatch.setattr(turn, "_PATIENCE", 0.05)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            mg.zeros(1, device="cuda")
        except mg.GraphError as error:
            errors.append(error)

    def run() -> None:
        if driver().capturing:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    recorded(run)
    assert "another thread" in str(errors[0])


def test_other_threads_memory_and_random_numbers_are_their_own() -> None:
    pool = memory.Pool()
    found: list[Any] = []

    def other() -> None:
        array = memory.empty((3,), np.dtype(np.float32))
        found.append(array.owner.block.pool)

    with memory.allocate_from(pool):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert found[0] is not pool


def test_what_is_filled_before_a_replay_has_memory_of_its_own() -> None:
    seen = []

    def increase(values: np.ndarray) -> None:
        values += 1

    def run() -> None:
        for _ in range(3):  # blocks that temporaries had and gave back
            mg.ones(4, device="cuda") * 2
        seen.append(table.upload(np.arange(4.0), increase))

    graph = recorded(run)
    for _ in range(2):
        graph.replay()
        driver().synchronize()
    values = np.empty(4)
    memory.to_host(seen[-1], values)
    assert values.tolist() == [2, 3, 4, 5]


def test_one_copy_fills_all_tables_of_a_recording_and_constants_are_copied_once(
    monkeypatch,
) -> None:
    seen: list[Any] = []

    def increase(values: np.ndarray) -> None:
        values += 1

    def run() -> None:
        fixed = np.arange(5)[::2]
        seen[:] = [
            table.upload(np.array([1.0, 2.0]), increase), table.upload(fixed),
            table.upload(np.arange(3, dtype=np.int32), increase), table.upload(np.full(5000, 7.0)),
            table.upload(np.zeros((40, 100)), increase), table.upload(np.zeros(0)),
        ]  # fmt: skip

    graph = recorded(run)
    uploads, upload = [], driver().upload

    def counted(*args: Any) -> None:
        uploads.append(args)
        upload(*args)

    monkeypatch.setattr(driver(), "upload", counted)
    graph.replay()
    assert len(uploads) == 4  # one of small and one of large tables, of each kind
    uploads.clear()
    for _ in range(2):
        graph.replay()
    assert len(uploads) == 4
    found = [np.empty(array.shape, array.dtype) for array in seen]
    for array, values in zip(seen, found, strict=True):
        memory.to_host(array, values)
    first, fixed, second, full, large, empty = found
    assert (first.tolist(), fixed.tolist(), second.tolist()) == ([4, 5], [0, 2, 4], [3, 4, 5])
    assert (full == 7).all()
    assert (large == 3).all()
    assert empty.size == 0


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x.__dlpack__(),
        mg.from_dlpack,
        lambda _: mg.cuda.Event().record(),
        lambda _: mg.cuda.empty_cache(),
    ],
    ids=["dlpack", "from_dlpack", "event", "empty_cache"],
)
def test_what_a_replay_would_not_do_is_refused(act) -> None:
    x = mg.ones(2, device="cuda")

    @mg.capture
    def step(input: mg.Tensor) -> None:
        act(input)

    with pytest.raises(mg.GraphError, match=r"captured step"):
        _ = [step(x) for _ in range(3)]  # the third one is recorded
    assert (x + 1).tolist() == [2, 2]


def test_work_on_the_cpu_inside_is_refused() -> None:
    counts = mg.zeros(2)
    step = mg.capture(lambda x: (x + 1, counts + 1))
    x = mg.ones(2, device="cuda")
    step(x), step(x)
    with pytest.raises(mg.GraphError, match="on the GPU only"):
        step(x)


# Value checks -----------------------------------------------------------------------------------


def test_a_bad_value_is_kept_over_later_replays() -> None:
    step = mg.capture(lambda x, y: F.cross_entropy(x, y))
    logits = mg.zeros(2, 3, device="cuda")
    loss = None
    for targets in ([0, 1], [1, 1], [2, 1], [0, 7], [9, 1], [1, 2], [0, 0]):
        loss = step(logits, mg.tensor(targets, device="cuda"))
    with pytest.raises(mg.TargetError, match=r"position \(1,\) is 7"):
        mg.cuda.synchronize()
    mg.cuda.synchronize()  # reported once
    step(logits, mg.tensor([0, 2], device="cuda"))
    assert loss is not None
    assert loss.item() == pytest.approx(np.log(3))
    step(logits, mg.tensor([-4, 2], device="cuda"))
    with pytest.raises(mg.TargetError, match="is -4"):
        loss.item()


def test_many_checks_are_read_by_one_copy(monkeypatch) -> None:
    copies = []
    download = driver().download

    def counted(*args: Any) -> None:
        copies.append(args)
        download(*args)

    monkeypatch.setattr(driver(), "download", counted)
    x = mg.arange(4.0, device="cuda")
    index = mg.tensor([1, 3], device="cuda")
    mg.cuda.synchronize()
    copies.clear()
    for _ in range(20):
        x[index]
    mg.cuda.synchronize()
    assert len(copies) == 1


def test_more_checks_than_a_ledger_holds() -> None:
    x = mg.arange(4.0, device="cuda")
    bad = mg.tensor([1, 9], device="cuda")
    good = mg.tensor([1, 2], device="cuda")

    @mg.capture
    def step(x: mg.Tensor, index: mg.Tensor) -> None:
        for _ in range(70):
            x[good]
        x[index]

    for _ in range(4):
        step(x, good)
    step(x, bad)
    step(x, good)
    with pytest.raises(mg.TargetError, match="index 9"):
        mg.cuda.synchronize()
    for _ in range(64):
        x[bad]
    with pytest.raises(mg.TargetError, match="index 9"):  # nobody waited, but the ledger is full
        x[bad]


def test_boxes_are_named_with_their_numbers() -> None:
    x = mg.zeros(1, 2, 4, 4, device="cuda")
    boxes = mg.tensor([[0, 0, 0, 2, 2.0], [3, 0, 0.5, 2, 2]], device="cuda")
    F.roi_pool(x, boxes, 2)
    with pytest.raises(mg.TargetError, match=r"box 1: \[3.0, 0.0, 0.5, 2.0, 2.0\]"):
        mg.cuda.synchronize()


@pytest.mark.skipif(ptx.installed(), reason="torch pins memory by a driver of its own")
def test_memory_that_torch_has_pinned_counts_as_pinned() -> None:
    torch = pytest.importorskip("torch")
    pinned = mg.from_numpy(torch.ones(1 << 22).pin_memory().numpy())
    assert pinned.is_pinned()
    there = pinned.to("cuda")
    pinned.fill_(0)  # the copy was done before `to` returned
    assert there.min().item() == 1
