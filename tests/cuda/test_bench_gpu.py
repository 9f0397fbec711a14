"""bench.gpu on tiny shapes. Beside an emulated GPU, torch works on the CPU."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bench import cases, gpu, training
from bench.operation import Operation, activation, forward, gradient
from minigrad.testing import ptx


def _tiny(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 10)
    )


@pytest.fixture(autouse=True)
def _torch_on_the_cpu(monkeypatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setitem(
        training.NETWORKS, "tiny", training.Network(lambda lib: _tiny(lib.nn), (6, 6, 1))
    )
    if not ptx.installed():
        return
    monkeypatch.setattr(gpu.TorchGpu, "recorded", lambda self, run: run)
    monkeypatch.setattr(gpu.TorchGpu, "compiled", lambda self, function: function)
    monkeypatch.setattr(gpu.TorchGpu, "device", "cpu")


def test_steps_of_every_engine_are_checked_and_timed(capsys) -> None:
    report: dict[str, Any] = {}
    gpu.measure_steps(report, [("tiny", 2)], budget=0.01, compiled=True, until=float("inf"))
    assert not report.get("failures")
    assert len(report["steps"]) == 2
    for row in report["steps"]:
        assert len(row["seconds"]) == 6
        assert row["checked"]
        assert row["recorded"] == ["minigrad captured", "torch graph"]
        assert all(seconds > 0 for seconds in row["seconds"].values())
    assert "minigrad captured" in capsys.readouterr().out
    json.dumps(report)


def test_kernels_are_checked_and_timed(monkeypatch) -> None:
    relu = Operation(
        "memory", "relu", (forward(24), gradient(24)), lambda e, x: e.F.relu(x),
        (activation(2, 3, 2, 2),),
    )  # fmt: skip
    monkeypatch.setattr(cases, "rows", lambda: [(relu, each) for each in relu.passes])
    report: dict[str, Any] = {}
    gpu.measure_kernels(report, quick=False, budget=0.01, until=float("inf"))
    assert not report.get("failures")
    assert [row["ratio"] > 0 for row in report["kernels"]] == [True, True]


def test_a_graph_holds_many_calls_of_a_small_kernel_only(monkeypatch) -> None:
    done: list[str] = []

    def work(e: Any, x: Any) -> Any:
        done.append(e.name)
        return e.F.relu(x)

    relu = Operation("memory", "relu", (forward(24),), work, (activation(2, 3, 2, 2),))
    monkeypatch.setattr(gpu.MinigradGpu, "recorded", lambda self, run: run)
    monkeypatch.setattr(gpu, "seconds_of", lambda engine, run, budget: run() or 1.0)
    for seconds, calls in ((gpu.SMALL_CALL / 2, gpu.CALLS), (gpu.SMALL_CALL * 2, 1)):
        monkeypatch.setattr(gpu, "_once", lambda engine, run, seconds=seconds: seconds)
        done.clear()
        row = gpu._kernel(relu, relu.passes[0], 0.01)
        assert row["recorded"]["minigrad"] == calls
        assert row["minigrad"] == 1 / calls
        assert done.count("minigrad") == 1 + calls  # once for the check


def test_without_time_nothing_is_started(capsys) -> None:
    report: dict[str, Any] = {}
    gpu.measure_steps(report, [("tiny", 2)], budget=0.01, compiled=False, until=0)
    gpu.measure_kernels(report, quick=True, budget=0.01, until=0)
    assert (report["steps"], report["kernels"]) == ([], [])
    assert capsys.readouterr().out.count("out of time") == 2


def test_a_failure_is_reported_and_stops_nothing(monkeypatch) -> None:
    report: dict[str, Any] = {}
    with gpu.guarded(report, "this"):
        raise ValueError("so")
    assert report["failures"] == ["this: ValueError: so"]


def test_a_wrong_result_is_a_failure(monkeypatch) -> None:
    wrong = Operation(
        "memory", "wrong", (forward(4),),
        lambda e, x: x * (2 if isinstance(e, gpu.MinigradGpu) else 3), (activation(2, 2),),
    )  # fmt: skip
    monkeypatch.setattr(cases, "rows", lambda: [(wrong, each) for each in wrong.passes])
    report: dict[str, Any] = {}
    gpu.measure_kernels(report, quick=False, budget=0.01, until=float("inf"))
    assert len(report["failures"]) == 1
    assert not report["kernels"]


def test_a_row_says_what_was_recorded_and_is_done_on_one_stream(monkeypatch) -> None:
    inside: list[str] = []

    @contextmanager
    def queue(self: gpu.TorchGpu) -> Iterator[None]:
        inside.append(self.name)
        yield
        inside.pop()

    def recorded(self: gpu.TorchGpu, run: Any) -> Any:
        assert inside == [self.name]
        if self.name == "torch nchw":
            raise RuntimeError("operation not permitted when stream is capturing")
        return run

    def work(e: Any, x: Any) -> Any:
        assert inside == ([] if isinstance(e, gpu.MinigradGpu) else [e.name])
        return e.F.relu(x)

    monkeypatch.setattr(gpu.TorchGpu, "queue", queue)
    monkeypatch.setattr(gpu.TorchGpu, "recorded", recorded)
    relu = Operation(
        "memory", "relu", (forward(24), gradient(24)), work, (activation(2, 3, 2, 2),)
    )  # fmt: skip
    monkeypatch.setattr(cases, "rows", lambda: [(relu, each) for each in relu.passes])
    report: dict[str, Any] = {}
    gpu.measure_kernels(report, quick=False, budget=0.01, until=float("inf"))
    assert not report.get("failures")
    assert [list(row["recorded"]) for row in report["kernels"]] == [
        ["minigrad", "torch channels_last"]
    ] * 2


@pytest.mark.parametrize("how", ["an error", "a signal"])
def test_what_was_measured_is_written_whatever_happens(monkeypatch, tmp_path, how: str) -> None:
    def kernels(report: dict[str, Any], *_: Any) -> None:
        report["kernels"] = [1, 2]
        if how == "a signal":
            os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("so")

    def failing(*_: Any) -> None:
        raise KeyError("training")

    file = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu, "check_training", failing)
    monkeypatch.setattr(gpu, "measure_steps", failing)
    monkeypatch.setattr(gpu, "measure_kernels", kernels)
    monkeypatch.setattr(sys, "argv", ["gpu", "--json", str(file)])
    assert gpu.main() == 1
    report = json.loads(file.read_text())
    assert {"gpu", "driver", "driver_cuda", "compilers", "torch_cuda", "commit"} <= set(report)
    assert report["kernels"] == [1, 2]
    assert len(report["failures"]) == 3
    assert ("SIGTERM" in report["failures"][2]) == (how == "a signal")
