"""The benchmarks: what they count, what they refuse, and the reports that they write.

No test looks at how long anything takes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import cases, floors, kernels, names, steps
from bench.engines import EAGER, MINIGRAD, Minigrad, Torch, to_numpy
from bench.measure import check, geometric_mean, take_turns
from bench.operation import Case, Operation, Pass
from bench.training import CONFIGURATIONS, NETWORKS, parameter_shapes, step_flops, training_step
from minigrad import nn, optim

ROOT = Path(__file__).resolve().parents[1]
PNG = b"\x89PNG\r\n\x1a\n"


def relu() -> tuple[Case, Pass]:
    return next((case, step) for case, step in cases.rows() if case.name == "relu")


def array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


# What is counted ------------------------------------------------------------------------------


def test_flops_of_every_product_are_those_that_torch_counts() -> None:
    engine = Torch("torch nchw")
    for case, step in cases.rows():
        # torch's counter forgets the groups of a weight gradient.
        if case.bound == "sgemm" and ("groups" not in case.name or step.name != "weight gradient"):
            (run,) = case.runs(engine, step).values()
            with FlopCounterMode(display=False) as counter:
                run()
            assert case.work(step) == counter.get_total_flops(), case.label(step)


def test_bytes_of_every_forward_pass_are_those_of_its_inputs_and_outputs() -> None:
    engine = Torch("torch nchw")
    rng = np.random.default_rng(0)
    for case in cases.all_cases():
        if case.bound != "copy" or not isinstance(case, Operation):
            continue
        for step in case.passes:
            if step.name == "forward":
                (run,) = case.runs(engine, step).values()
                moved = [each.draw(rng) for each in case.inputs] + [to_numpy(out) for out in run()]
                # Boxes, biases and the like are small beside the data and are not counted.
                total = sum(each.nbytes for each in moved)
                assert case.work(step) == pytest.approx(total, rel=0.01), case.label(step)


def test_optimizer_steps_count_the_parameters_of_network_b() -> None:
    moved = {c.name: c.work(c.passes[0]) for c in cases.all_cases() if c.passes[0].name == "step"}
    assert moved == {
        "Adam": 7 * 4 * 295_770,
        "SGD": 3 * 4 * 295_770,
        "SGD, momentum": 5 * 4 * 295_770,
    }


@pytest.mark.parametrize("network", NETWORKS)
def test_outline_of_a_network_has_its_parameters(network: str) -> None:
    build, _ = NETWORKS[network]
    assert parameter_shapes(network) == [p.shape for p in build(nn).parameters()]


@pytest.mark.parametrize("network", NETWORKS)
def test_flops_of_a_step_are_those_that_torch_counts(network: str) -> None:
    step = training_step(Torch("torch nchw"), network, 2)
    with FlopCounterMode(display=False) as counter:
        step()
    assert step_flops(network, 2) == counter.get_total_flops()


def test_rows_have_labels_of_their_own_and_quick_ones_in_every_family() -> None:
    names = [case.label(step) for case, step in cases.rows()]
    assert len(set(names)) == len(names)
    assert all(cases.find(name)[0].label(cases.find(name)[1]) == name for name in names)
    families = {case.family for case, _ in kernels.selected(None, quick=True)}
    assert families == {case.family for case in cases.all_cases()}


def test_every_layer_of_the_networks_is_there_in_three_directions() -> None:
    shapes = {
        (case.inputs[0].shape, case.inputs[1].shape, step.name)
        for case, step in cases.rows()
        if case.family == cases.NETWORK_CONVOLUTIONS and isinstance(case, Operation)
    }
    assert len(shapes) == 3 * (3 + 3 + 8)
    for direction in ("forward", "input gradient", "weight gradient"):
        assert ((64, 64, 4, 4), (128, 64, 3, 3), direction) in shapes
        assert ((16, 1, 28, 28), (16, 1, 3, 3), direction) in shapes


def test_only_selects_by_label_also_what_quick_leaves_out() -> None:
    chosen = kernels.selected("ROI_pool.*gradient", quick=True)
    assert [(case.name, step.name) for case, step in chosen] == [
        ("roi_pool 7×7 of 512 boxes", "input gradient")
    ]
    assert len(kernels.selected(None, quick=True)) < len(kernels.selected(None, quick=False))


def test_table_of_operations_starts_no_engine() -> None:
    code = (
        "import sys; from bench import cases; cases.rows(); "
        "sys.exit(' '.join({'numba', 'torch'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


# Figures --------------------------------------------------------------------------------------


def test_ratio_rate_and_share_take_the_best_of_torch() -> None:
    seconds = {MINIGRAD: 0.5, "torch nchw": 3.0, "torch channels_last": 1.0}
    row = kernels.Row("f", "op", "2×3", "forward", 1, seconds, 4 * 10**9, "GFLOP/s", 16e9)
    assert row.best_torch == "torch channels_last"
    assert (row.ratio, row.share) == (2.0, 0.5)
    assert (row.rate(MINIGRAD), row.rate(row.best_torch)) == (8.0, 4.0)
    assert row.report()["seconds"] == seconds
    assert row.report()["rate"] == {"minigrad": 8.0, "torch": 4.0}
    slow = kernels.Row("f", "op", "2×3", "forward", 2, {**seconds, MINIGRAD: 2.0}, 1, "GB/s", 1.0)
    assert kernels.summary([row, slow]) == (
        "geometric mean 1.00×, lowest 0.50×, at least 1× in 1 of 2"
    )
    assert [mean["ratio"] for mean in kernels.means([row, slow])] == pytest.approx([2.0, 0.5])
    assert geometric_mean([0.5, 2, 8]) == pytest.approx(2)


class FakeWorker:
    """Answers as a worker does, with given results and seconds."""

    def __init__(self, results: dict[str, list[np.ndarray]], seconds: dict[str, list[float]]):
        self.results, self.seconds = results, seconds
        self.turns = 0

    def prepare(self, **request: Any) -> dict[str, list[np.ndarray]]:
        return self.results

    def ask(self, budget: float) -> dict[str, Any]:
        self.turns += 1
        # What the warm-up measures must not count.
        scale = 1000 if self.turns == 1 else 1
        seconds = {name: [scale * x for x in each] for name, each in self.seconds.items()}
        return {"seconds": seconds, "peak_bytes": self.turns}


def test_times_are_medians_over_all_turns_but_the_first() -> None:
    worker = FakeWorker({}, {"a": [1.0, 2.0, 9.0], "b": [4.0]})
    medians, peaks = take_turns([worker], turns=3, budget=0.1)
    assert medians == {"a": 2.0, "b": 4.0}
    assert peaks == {"a": 4, "b": 4}


# What is refused ------------------------------------------------------------------------------


def test_results_that_differ_by_rounding_pass() -> None:
    values = np.linspace(-3, 3, 50, dtype=np.float32)
    check("op", [values], [values * np.float32(1 + 1e-6)], "torch", 1e-5)
    check("op", [values[:0]], [values[:0]], "torch", 1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([array(1, 2.1)], "op: result 0 of minigrad and torch differ by 0.1, more than"),
        ([array(1, np.nan)], "differ by nan"),
        ([array(1, 2)[None]], r"float32 \(1, 2\) in minigrad, float32 \(2,\) in torch"),
        ([array(1, 2).astype(np.float64)], "float64"),
        ([], "gives 0 results, torch 1"),
    ],
)
def test_results_that_differ_end_the_program(wrong: list[np.ndarray], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        check("op", wrong, [array(1, 2)], "torch", 1e-3)


def test_row_with_a_wrong_result_is_not_timed() -> None:
    case, step = relu()
    right = {name: [array(1, 2)] for name in (MINIGRAD, *EAGER)}
    seconds = {"torch nchw": [2.0], "torch channels_last": [3.0], "copy": [1.0]}
    theirs = FakeWorker({name: right[name] for name in EAGER}, seconds)

    good = FakeWorker({MINIGRAD: right[MINIGRAD]}, {MINIGRAD: [1.0]})
    row = kernels.measure(case, step, 1, good, theirs, turns=2, budget=0.1)
    assert (row.ratio, row.unit, set(row.seconds)) == (2.0, "GB/s", set(right))
    assert row.share == pytest.approx(case.work(step) / floors.WORK["copy"])

    bad = FakeWorker({MINIGRAD: [array(1, 3)]}, {MINIGRAD: [1.0]})
    with pytest.raises(SystemExit, match=r"relu.*forward: result 0 of minigrad and torch nchw"):
        kernels.measure(case, step, 1, bad, theirs, turns=2, budget=0.1)
    assert bad.turns == 0


def test_pattern_without_rows_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        kernels.main(["--only", "no such operation"])
    assert ended.value.code == 2
    assert "no row matches 'no such operation'" in capsys.readouterr().err


# The engines ----------------------------------------------------------------------------------


def test_first_losses_of_a_network_agree() -> None:
    ours, *theirs = (training_step(e, "MNIST fixed", 2) for e in (Minigrad(), *map(Torch, EAGER)))
    for _ in range(3):
        loss = ours()
        for step in theirs:
            assert step() == pytest.approx(loss, rel=steps.LOSS_TOLERANCE)


def test_engines_lay_tensors_out_as_their_layers_do() -> None:
    image = np.zeros((2, 3, 4, 5), np.float32)
    ours = Minigrad()
    assert ours.tensor(image).array.transpose(0, 2, 3, 1).flags.c_contiguous
    assert ours.tensor(image[0, 0]).array.flags.c_contiguous
    for layer in (nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(3, 8, 3), nn.Linear(3, 8)):
        weight = np.zeros(layer.weight.shape, np.float32)
        assert ours.tensor(weight, weight=True).array.strides == layer.weight.array.strides
    assert Torch("torch nchw").tensor(image).is_contiguous()
    last = Torch("torch channels_last").tensor(image)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_optimizers_are_timed_in_every_form_of_torch_but_in_one_layout() -> None:
    case, step = next((c, s) for c, s in cases.rows() if c.name == "Adam")
    nchw, last = (Torch(name) for name in EAGER)
    runs = case.runs(nchw, step)
    assert list(runs) == ["torch default", "torch foreach", "torch fused"]
    assert case.runs(last, step) == {}
    results = [[to_numpy(p) for p in run()] for run in runs.values()]
    for other in results[1:]:
        check("Adam", results[0], other, "other form", 1e-5)


# Reports --------------------------------------------------------------------------------------


def test_kernels_writes_table_json_and_png(tmp_path: Path) -> None:
    report, chart = tmp_path / "kernels.json", tmp_path / "kernels.png"
    done = subprocess.run(
        [
            sys.executable, "-m", "bench.kernels", "--quick", "--only", "relu", "--threads", "1",
            "--json", str(report), "--png", str(chart),
        ],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "memory-bound operations, 1 thread" in done.stdout
    assert "geometric mean" in done.stdout
    assert "compiled kernel variants in" in done.stdout
    assert sum(line.startswith("relu ") for line in done.stdout.splitlines()) == 2

    written = json.loads(report.read_text())
    assert {"machine", "cores", "python", "versions", "dtype", "compiled_variants"} < set(written)
    assert [row["direction"] for row in written["rows"]] == ["forward", "input gradient"]
    for row in written["rows"]:
        assert (row["operation"], row["shape"], row["threads"]) == ("relu", "64×16×32×32", 1)
        assert set(row["seconds"]) == {MINIGRAD, *EAGER}
        best = min(row["seconds"][name] for name in EAGER)
        assert row["ratio"] == pytest.approx(best / row["seconds"][MINIGRAD])
        assert row["share_of_floor"] * row["floor_rate"] / 1e9 == pytest.approx(
            row["rate"]["minigrad"]
        )
    ratios = [row["ratio"] for row in written["rows"]]
    (mean,) = written["geometric_means"]
    assert mean["ratio"] == pytest.approx(math.prod(ratios) ** 0.5)
    assert chart.read_bytes().startswith(PNG)


def test_steps_writes_table_json_and_png(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Answers(FakeWorker):
        def __init__(self, engines: list[str], threads: int) -> None:
            name = engines[0] if engines else "sgemm"
            self.peak = (300 if name == MINIGRAD else 500) * 2**20
            super().__init__({name: [array(2.3)]}, {name: [0.01 if name == MINIGRAD else 0.02]})

        def ask(self, budget: float) -> dict[str, Any]:
            return {**super().ask(budget), "peak_bytes": self.peak}

        def __enter__(self) -> Answers:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(steps, "Worker", Answers)
    report, chart = tmp_path / "steps.json", tmp_path / "steps.png"
    steps.main(["--threads", "1", "2", "--compile", "--json", str(report), "--png", str(chart)])
    table = capsys.readouterr().out
    header, *lines = table.splitlines()[1:]
    assert header.split()[:3] == ["network", "batch", "threads"]
    # The share: the step's products at the rate of sgemm, 2·1024³ flop in 0.02 s, in 0.01 s.
    share = step_flops(*CONFIGURATIONS[0]) * 0.02 / floors.WORK["sgemm"] / 0.01
    assert lines[0].split()[-4:] == ["2.00×", f"{share:.0%}", "300", "500"]
    assert "compiled kernel variants in" in table

    written = json.loads(report.read_text())
    assert [(r["network"], r["batch"], r["threads"]) for r in written["rows"]] == [
        (network, batch, count) for count in (1, 2) for network, batch in CONFIGURATIONS
    ]
    for row in written["rows"]:
        assert row["ratio_to_best_eager"] == row["ratio_to_best_compiled"] == 2
        assert row["peak_bytes"][MINIGRAD] == 300 * 2**20
        assert row["share_of_floor"] == pytest.approx(row["floor"] / 0.01)
    assert chart.read_bytes().startswith(PNG)


def test_every_name_of_torch_is_here_or_has_its_reason() -> None:
    missing = {
        path: by_reason["missing"]
        for path, owners in names.NAMESPACES
        if "missing" in (by_reason := names.absent(path, owners)[1])
    }
    if torch.__version__.startswith(names.TORCH):
        assert not missing
    else:  # a later release may have added some
        assert set(missing) <= {path for path, _ in names.NAMESPACES}


def test_names_are_counted_with_the_reason_for_each_that_is_absent() -> None:
    total, by_reason = names.absent("torch.optim", [optim])
    assert total == len(names.public_names("torch.optim")) > 10
    assert "missing" not in by_reason
    assert by_reason["sparse"] == ["SparseAdam"]
    _, nothing_here = names.absent("torch.nn.init", [])
    assert "uniform_" in nothing_here["missing"]
    reasons = [names.reason_of(name) for name in ("Conv3d", "flipud", "qr", "LSTM", "index_copy")]
    assert reasons == ["3-d", None, "linear algebra", "recurrent networks", None]
