"""The benchmarks: what they count, what they refuse, and the reports that they write.

No test looks at how long anything takes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import minigrad
from bench import (
    beside,
    cases,
    floors,
    history,
    kernels,
    load,
    measure,
    names,
    report,
    start,
    steps,
)
from bench.engines import CAPTURED, EAGER, HIGH, MINIGRAD, Minigrad, Torch, to_numpy
from bench.measure import Timing, check, disturbed, geometric_mean, take_turns
from bench.operation import Case, Operation, Pass
from bench.training import (
    INFERENCE,
    JOBS,
    NETWORKS,
    TRAINING,
    Job,
    flops,
    parameter_shapes,
    prepared,
    training_step,
)
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
        forgotten = "groups" in case.name and step.name == "weight gradient"
        if case.bound == "sgemm" and not forgotten and not case.named:
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
    model = NETWORKS[network].build(minigrad)
    assert parameter_shapes(network) == [p.shape for p in model.parameters()]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", [TRAINING, INFERENCE])
def test_flops_of_a_step_are_those_that_torch_counts(kind: str, network: str) -> None:
    if kind == TRAINING and "MobileNet" in network:
        kind = INFERENCE  # torch's counter forgets the groups of a weight gradient
    step = prepared(Torch("torch nchw"), kind, network, 2)
    with FlopCounterMode(display=False) as counter:
        step()
    assert flops(kind, network, 2) == counter.get_total_flops()


def test_rows_have_labels_of_their_own_and_quick_ones_in_every_family() -> None:
    names = [case.label(step) for case, step in cases.rows()]
    assert len(set(names)) == len(names)
    assert all(cases.find(name)[0].label(cases.find(name)[1]) == name for name in names)
    families = {case.family for case, _ in kernels.selected(None, quick=True)}
    assert families == {case.family for case in cases.all_cases() if not case.named}


def test_convolutions_of_untuned_networks_are_measured_only_by_name() -> None:
    everything = kernels.selected(None, quick=False)
    assert cases.UNTUNED_CONVOLUTIONS not in {case.family for case, _ in everything}
    named = kernels.selected("untuned.*512→512", quick=False)
    assert [step.name for _, step in named] == ["forward", "input gradient", "weight gradient"]
    strided = next(c for c, _ in kernels.selected("untuned.*3→64 7×7", quick=False))
    assert (strided.shape, strided.name) == ("8×3×224×224", "conv 3→64 7×7 stride 2")
    depthwise = next(c for c, _ in kernels.selected("untuned.*384→384", quick=False))
    assert depthwise.name.endswith("stride 2 groups 384") or depthwise.name.endswith("groups 384")


def test_rows_of_steps_are_chosen_by_their_labels() -> None:
    assert len({job.label for job in JOBS}) == len(JOBS)
    assert [job.network for job in steps.selected("inference.*mlp, 1$", quick=False)] == ["MLP"]
    everything = steps.selected(None, quick=False)
    assert {job.kind for job in everything} == {TRAINING, INFERENCE}
    assert "CIFAR speedrun" not in {job.network for job in everything}
    assert steps.selected("speedrun", quick=False) == [Job(TRAINING, "CIFAR speedrun", 1024, True)]
    quick = {job.label for job in steps.selected(None, quick=True)}
    assert quick < {job.label for job in everything}


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

    pid = os.getpid()

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


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """How many cores other processes use, round by round; then none."""
    used: list[float | None] = []

    class Scripted:
        def __init__(self, own: Any) -> None:
            self.own = own

        def others(self) -> float | None:
            return used.pop(0) if used else 0.0

    monkeypatch.setattr(measure, "Watch", Scripted)
    return used


@pytest.mark.usefixtures("others")
def test_times_are_medians_over_all_turns_but_the_first() -> None:
    worker = FakeWorker({}, {"a": [1.0, 2.0, 9.0], "b": [4.0]})
    timing = take_turns([worker], turns=3, budget=0.1)
    assert timing.seconds == {"a": 2.0, "b": 4.0}
    assert timing.peak_bytes == {"a": 4, "b": 4}
    assert timing.others == 0.0


def test_noise_is_how_far_apart_the_ratios_of_the_rounds_lie() -> None:
    rounds = [{"a": [1.0], "b": [ratio], "c": [9.0]} for ratio in (2.0, 2.0, 2.1, 1.9, 4.0)]
    assert Timing(rounds, {}, 0.0).noise("a", ["b", "c"]) == pytest.approx(0.1 / 2)


# What other processes use ---------------------------------------------------------------------


class CountingWorker(FakeWorker):
    """The n-th round takes n seconds; the warm-up is round 0."""

    def __init__(self) -> None:
        super().__init__({}, {})

    def ask(self, budget: float) -> dict[str, Any]:
        self.turns += 1
        return {"seconds": {"a": [self.turns - 1.0]}, "peak_bytes": 1}


def test_rounds_beside_other_processes_are_repeated(others: list[float | None]) -> None:
    others += [0.0, 0.9, 0.05, 0.8]
    timing = take_turns([CountingWorker()], turns=3, budget=0.1)
    assert sorted(each["a"][0] for each in timing.rounds) == [1.0, 3.0, 5.0]
    assert timing.others == 0.05
    assert not disturbed(timing.others)


def test_a_row_that_finds_no_quiet_rounds_is_marked(others: list[float | None]) -> None:
    others += [0.0, 0.9, 0.7, 0.8, 0.6, 0.9]
    worker = CountingWorker()
    timing = take_turns([worker], turns=3, budget=0.1)
    assert sorted(each["a"][0] for each in timing.rounds) == [1.0, 3.0, 5.0]
    assert timing.others == 0.7
    assert disturbed(timing.others)
    assert worker.turns == 1 + 6

    others += [0.9] * 3
    busy = CountingWorker()
    assert take_turns([busy], turns=3, budget=0.1).others == 0.9
    assert busy.turns == 1 + 3  # more of the same would help nobody


def test_unknown_use_marks_nothing(others: list[float | None]) -> None:
    others += [None] * 3
    timing = take_turns([CountingWorker()], turns=3, budget=0.1)
    assert timing.others is None
    assert not disturbed(timing.others)


def proc(folder: Path, busy: int, own: dict[int, int]) -> None:
    """What Linux would report: ticks of every core, and of processes."""
    cores = [f"cpu{core} {busy} 0 0 9 9 0 0 0 0 0" for core in sorted(load.allowed_cores())]
    (folder / "stat").write_text("\n".join(["cpu 1 1 1 1 1 1 1 1", *cores, "cpu9999 7 7 7"]))
    for pid, ticks in own.items():
        (folder / str(pid)).mkdir(exist_ok=True)
        fields = ["R", *"0" * 10, str(ticks), "1", "0"]
        (folder / str(pid) / "stat").write_text(f"{pid} (a) name) {' '.join(fields)}")


def test_use_by_others_is_what_the_cores_did_less_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "allowed_cores", lambda: {0, 1})
    now = [100.0]
    monkeypatch.setattr(load.time, "perf_counter", lambda: now[0])
    second = os.sysconf("SC_CLK_TCK")
    mine, child, ended = os.getpid(), 7, 8
    proc(tmp_path, 1000, {mine: 10, child: 20})
    watch = load.Watch([child, ended], tmp_path)
    now[0] += 2
    # Two cores worked two seconds each; we used one of the four, and a half.
    proc(tmp_path, 1000 + 2 * second, {mine: 10 + second, child: 20 + second // 2})
    assert watch.others() == pytest.approx(2.5 / 2, abs=0.02)
    proc(tmp_path, 1000, {mine: 10, child: 20})
    assert watch.others() == 0


def test_where_the_system_does_not_tell_the_use_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load.Watch([], tmp_path).others() is None
    proc(tmp_path, 0, {os.getpid(): 0})
    assert load.Watch([], tmp_path).others() is None  # a sandbox that counts nothing
    assert load.Watch([], Path("/proc")).others() is not None or sys.platform != "linux"
    monkeypatch.setattr(load.Watch, "others", lambda self: None)
    assert "does not tell" in load.load_note()


def test_rows_beside_other_processes_have_no_ratio_and_count_in_no_mean() -> None:
    seconds = {MINIGRAD: 1.0, "torch nchw": 2.0}
    quiet, busy = (
        kernels.Row("f", "op", "2×3", "forward", 1, seconds, 1, "GB/s", 1.0, others=used)
        for used in (0.0, 0.5)
    )
    assert "2.00×" in kernels.line(quiet)
    assert "×" not in kernels.line(busy).removeprefix(f"{'op':<38}2×3")
    assert "no ratio: others used 0.50 cores" in kernels.line(busy)
    assert "ratio" not in busy.report()
    assert kernels.summary([quiet, busy]).endswith("in 1 of 1")
    assert kernels.summary([busy]) == "no row was measured on quiet cores"
    assert [mean["ratio"] for mean in kernels.means([quiet, busy])] == [2.0]

    timing = Timing([{MINIGRAD: [1.0], **{name: [2.0] for name in EAGER}}], {MINIGRAD: 1}, 0.5)
    row = steps.Row(Job(TRAINING, "MLP", 1), 1, timing, 1.0)
    assert "no ratio: others used 0.50 cores" in row.line()
    assert "×" not in row.line()
    assert not row.report().keys() & {"ratios_to_best_eager", "share_of_floor"}
    assert steps.means([row]) == []


# History --------------------------------------------------------------------------------------


def test_history_names_rows_that_lost_more_than_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history.jsonl"
    commits = iter(["first", "second", "third", "elsewhere"])
    monkeypatch.setattr(history, "commit", lambda: next(commits))

    def run(*entries: history.Entry, **changes: Any) -> None:
        history.record("steps", entries, path)
        *before, last = path.read_text().splitlines()
        path.write_text("\n".join([*before, json.dumps(json.loads(last) | changes)]) + "\n")

    run(history.Entry("a", 1.0, 2.0, 0.01), history.Entry("start", 1.0))
    assert history.main(["--file", str(path)]) == 0
    assert "no earlier run here" in capsys.readouterr().out
    run(history.Entry("a", 9.0, 1.96, 0.01), history.Entry("b", 1.0, 2.0, 0.3))
    assert history.main(["--file", str(path)]) == 0  # 2 % is noise; times may differ
    assert "slower" not in capsys.readouterr().out
    run(
        history.Entry("a", 9.0, 1.5, 0.01),  # lost a quarter
        history.Entry("b", 1.0, 1.5, 0.3),  # the same, but that is its noise
        history.Entry("start", 0.5),  # has a time only
    )
    assert history.main(["--file", str(path)]) == 1
    said = capsys.readouterr().out
    assert "slower  0.77×  a (since second" in said
    assert "faster  2.00×  start (since first" in said
    assert "  b (" not in said
    run(history.Entry("a", 9.0, 1.0), machine="another processor")
    assert history.main(["--file", str(path)]) == 0
    assert "no earlier run here" in capsys.readouterr().out


def test_history_keeps_a_compact_line_a_run(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.record("steps", [history.Entry("a", 0.0123456, 1.23456, 0.0654321)], path)
    (line,) = map(json.loads, path.read_text().splitlines())
    assert line["rows"] == {"a": [1.235, 0.065, 12.3456]}
    assert {"time", "commit", "machine", "cores", "versions"} < line.keys()
    assert "torch" in line["versions"]


def test_history_that_is_not_there_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        history.main(["--file", str(tmp_path / "none")])
    assert "benchmarks write it with --record" in capsys.readouterr().err


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


@pytest.mark.usefixtures("others")
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


@pytest.mark.parametrize("kind", [TRAINING, INFERENCE])
def test_captured_steps_give_what_steps_give(kind: str) -> None:
    plain, captured = (prepared(Minigrad(n), kind, "MLP", 2) for n in (MINIGRAD, CAPTURED))
    for _ in range(5):  # batches are cycled through, and a recording is replayed from the fourth on
        for left, right in zip(plain(), captured(), strict=True):
            check(kind, [to_numpy(left)], [to_numpy(right)], CAPTURED, 1e-6)


@pytest.mark.parametrize("network", ["ResNet-20", "MobileNet 32²", "LeNet"])
def test_untuned_networks_agree(network: str) -> None:
    ours, theirs = (prepared(e, INFERENCE, network, 2) for e in (Minigrad(), Torch(EAGER[0])))
    check(network, [to_numpy(ours()[0])], [to_numpy(theirs()[0])], "torch", 1e-5)


def test_high_precision_is_asked_of_minigrad_alone() -> None:
    code = (
        "from bench.engines import load; import minigrad, torch; "
        "load('minigrad high', 1); load('torch nchw', 1); "
        "print(minigrad.get_float32_matmul_precision(), torch.get_float32_matmul_precision())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["high", "highest"], done.stderr


# Reports --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("others")
def test_kernels_writes_table_json_png_and_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report_file, chart, kept = (tmp_path / f"kernels.{end}" for end in ("json", "png", "jsonl"))
    monkeypatch.setattr(report, "record", partial(history.record, path=kept))
    options = ["--quick", "--only", "relu, 64.16.32", "--threads", "1", "--record"]
    kernels.main([*options, "--json", str(report_file), "--png", str(chart)])
    table = capsys.readouterr().out
    assert "memory-bound operations, 1 thread" in table
    assert "geometric mean" in table
    assert "compiled kernel variants in" in table
    assert sum(line.startswith("relu ") for line in table.splitlines()) == 2

    written = json.loads(report_file.read_text())
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
    rows = json.loads(kept.read_text())["rows"]
    assert [ratio for ratio, _, _ in rows.values()] == pytest.approx(ratios, abs=1e-3)
    assert all(label.endswith(", 1 threads") for label in rows)


class Answers(FakeWorker):
    """In place of a Worker: minigrad needs 10 ms, captured 5, with two threads 20 % more; torch and
    the floor 20."""

    made: ClassVar[list[tuple[str, int]]] = []

    def __init__(self, engines: list[str], threads: int) -> None:
        name = engines[0] if engines else "sgemm"
        self.made.append((name, threads))
        seconds = {MINIGRAD: 0.01, CAPTURED: 0.005}.get(name.removesuffix(HIGH), 0.02)
        if name.startswith(MINIGRAD) and threads == 2:
            seconds *= 1.2
        self.peak = (300 if name == MINIGRAD else 500) * 2**20
        super().__init__({name: [array(2.3)]}, {name: [seconds]})

    def ask(self, budget: float) -> dict[str, Any]:
        return {**super().ask(budget), "peak_bytes": self.peak}

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.usefixtures("others")
def test_steps_writes_table_json_and_png(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "Worker", Answers)
    report_file, chart = tmp_path / "steps.json", tmp_path / "steps.png"
    options = ["--threads", "1", "2", "--compile", "--json", str(report_file), "--png", str(chart)]
    steps.main(options)
    table = capsys.readouterr().out
    lines = [line for line in table.splitlines() if line.startswith("MNIST fixed ")]
    # The share: the step's products at the rate of sgemm, 2·1024³ flop in 0.02 s, in 0.01 s.
    share = flops(TRAINING, "MNIST fixed", 16) * 0.02 / floors.WORK["sgemm"] / 0.01
    assert lines[0].split()[-5:] == ["2.00×", "4.00×", f"{share:.0%}", "300", "500"]
    assert "training, 1 threads, minigrad: geometric mean of 16 rows 2.00×, lowest 2.00×" in table
    assert "inference, 2 threads, minigrad captured: geometric mean of 14 rows 3.33×" in table
    assert "compiled kernel variants in" in table

    written = json.loads(report_file.read_text())
    assert [(r["kind"], r["network"], r["batch"], r["threads"]) for r in written["rows"]] == [
        (job.kind, job.network, job.batch, count)
        for count in (1, 2) for job in JOBS if not job.named
    ]  # fmt: skip
    for row in written["rows"]:
        assert row["ratio_to_best_compiled"] == row["ratios_to_best_eager"][MINIGRAD]
        assert row["peak_bytes"][MINIGRAD] == 300 * 2**20
        assert row["share_of_floor"] == pytest.approx(row["floor"] / row["seconds"][MINIGRAD])
        assert "sgemm" not in row["seconds"]
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


@pytest.mark.usefixtures("others")
def test_precisions_of_products_are_engines_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "Worker", Answers)
    monkeypatch.setattr(Answers, "made", [])
    steps.main(["--only", "training, MLP", "--threads", "1", "--precision", "highest", "high"])
    assert [name for name, _ in Answers.made] == [
        "sgemm", MINIGRAD, CAPTURED, MINIGRAD + HIGH, CAPTURED + HIGH, *EAGER
    ]  # fmt: skip
    assert "training, 1 threads, minigrad captured high" in capsys.readouterr().out


@pytest.mark.usefixtures("others")
def test_steps_beside_a_busy_core_compare_means_of_two_threads_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(beside, "Worker", Answers)
    beside.main([])
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[-1] for line in lines] == ["1.20×", "1.00×"] * 2
    assert lines[0].split()[-5:-1] == ["10.00", "10.00", "12.00", "12.00"]


def test_start_counts_what_each_process_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = (
        "import os, pathlib; kernel = pathlib.Path(os.environ['MINIGRAD_CACHE_DIR'], '{package}')\n"
        "if not kernel.exists(): kernel.touch()\n"
    )
    monkeypatch.setattr(start, "_STEP", step)
    rows = start.rows(quick=True, work=tmp_path)
    assert [row.compiled for row in rows] == [1, 0, 1, 0]
    assert all(row.seconds > 0 and row.cpu_seconds > 0 for row in rows)
    assert [row.runs for row in rows] == [1, 3, 3, 3]
    busy = start.Row("step", 1.0, 1.0, 1, 0, others=0.5)
    assert busy.line().endswith("not a result: others used 0.50 cores")


def test_names_are_counted_with_the_reason_for_each_that_is_absent() -> None:
    total, by_reason = names.absent("torch.optim", [optim])
    assert total == len(names.public_names("torch.optim")) > 10
    assert "missing" not in by_reason
    assert by_reason["sparse"] == ["SparseAdam"]
    _, nothing_here = names.absent("torch.nn.init", [])
    assert "uniform_" in nothing_here["missing"]
    reasons = [names.reason_of(name) for name in ("Conv3d", "flipud", "qr", "LSTM", "index_copy")]
    assert reasons == ["3-d", None, "linear algebra", "recurrent networks", None]
