"""bench.gpu on tiny shapes. In the simulator torch, which has no GPU there, works on the CPU."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from bench import cases, gpu, training
from bench.operation import Operation, activation, forward, gradient

_SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0"


def _tiny(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 10)
    )


@pytest.fixture(autouse=True)
def _torch_on_the_cpu(monkeypatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setitem(training.NETWORKS, "tiny", (_tiny, (6, 6, 1)))
    if not _SIMULATED:
        return
    monkeypatch.setattr(gpu.TorchGpu, "recorded", lambda self, run: run)
    monkeypatch.setattr(gpu.TorchGpu, "compiled", lambda self, function: function)
    monkeypatch.setattr(gpu.TorchGpu, "device", "cpu")


def test_steps_of_every_engine_are_checked_and_timed(capsys) -> None:
    report: dict[str, Any] = {}
    gpu.measure_steps(report, [("tiny", 2)], budget=0.01)
    assert not report.get("failures")
    assert len(report["steps"]) == 2
    for row in report["steps"]:
        assert len(row["seconds"]) == 6
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
