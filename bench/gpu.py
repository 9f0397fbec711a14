"""minigrad and torch on an NVIDIA GPU: checks first, then kernels and training steps.

    python -m bench.gpu                       # within ten minutes
    python -m bench.gpu --quick --json bench/results/gpu.json

Versions are printed first. Both engines run in this process, on one GPU, in turns, and their
results are compared before anything is timed. Kernels are timed as replays of a CUDA graph, so that
neither engine's Python counts; a graph holds 20 calls of a small kernel, so that the replay's own
cost does not count either (where torch cannot record a call, its row says so, and its time is that
of the call as it is). A training step is timed as a user runs it, from call to call, with one wait
at the end. torch.compile takes minutes and is left out unless --compile asks for it. Every section
has a budget of time, and a section that fails is reported and does not stop the others. The JSON is
written whatever happens, also when the program is told to end (SIGTERM). Data are drawn here;
nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import cases
from .engines import Engine, Minigrad, Torch
from .measure import ROOT, check, conditions, geometric_mean
from .operation import Case, Pass
from .training import batches, cycled, step_and_data

CONFIGURATIONS = [
    (network, batch)
    for network in ("CIFAR A", "CIFAR B", "MNIST fixed")
    for batch in (64, 128, 512)
]
# TF32 keeps 10 bits of each factor; Adam's first steps then differ in every parameter.
TOLERANCE, TF32_TOLERANCE = 2e-3, 2e-2
TURNS = 5
SMALL_CALL, CALLS = 1e-3, 20  # seconds of a call of which a graph holds so many


class OnGpu(Engine):
    """What both engines do alike."""

    device = "cuda"

    def tensor(self, array: np.ndarray, weight: bool = False) -> Any:
        return super().tensor(array, weight).to(self.device)

    def placed(self, model: Any) -> Any:
        return super().placed(model.to(self.device))

    def queue(self) -> Any:
        """A context in which all work of a row is done."""
        return nullcontext()

    def synchronize(self) -> None:
        if self.device == "cuda":
            self.lib.cuda.synchronize()


class MinigradGpu(OnGpu, Minigrad):
    def recorded(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """The same work as a replay of a CUDA graph."""
        from minigrad.runtime.cuda.capture import recorded

        return recorded(run).replay

    def captured(self, step: Callable[..., Any]) -> Callable[..., Any]:
        return self.lib.capture(step)

    @contextmanager
    def tf32(self, allowed: bool) -> Any:
        settings = self.lib.backends.cuda
        before, settings.allow_tf32 = settings.allow_tf32, allowed
        try:
            yield
        finally:
            settings.allow_tf32 = before


class TorchGpu(OnGpu, Torch):
    @cached_property
    def _side(self) -> Any:
        return self.lib.cuda.Stream()

    def queue(self) -> Any:
        """A stream that can be recorded, as the default one cannot. Backward passes run on the
        stream of their forward passes, so these must be on it too, and not only the recording."""
        return nullcontext() if self.device == "cpu" else self.lib.cuda.stream(self._side)

    def recorded(self, run: Callable[[], Any]) -> Callable[[], Any]:
        torch = self.lib
        for _ in range(3):
            run()
        self.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._side):
            run()
        return graph.replay

    def captured(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """torch's own pattern: inputs at fixed addresses, the step recorded, replays after copies.

        The step must run eagerly before; it does, for the checks.
        """
        state: dict[str, Any] = {}

        def run(*args: Any) -> Any:
            if not state:
                state["inputs"] = [arg.clone() for arg in args]

                def once() -> None:
                    state["out"] = step(*state["inputs"])

                state["replay"] = self.recorded(once)
            for own, arg in zip(state["inputs"], args, strict=True):
                own.copy_(arg)
            state["replay"]()
            return state["out"]

        return run

    @contextmanager
    def tf32(self, allowed: bool) -> Any:
        backends = self.lib.backends
        before = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
        backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = allowed
        try:
            yield
        finally:
            backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = before


def to_numpy(value: Any) -> np.ndarray:
    return np.array(value.detach().cpu().numpy())


def seconds_of(engine: Any, run: Callable[[], Any], budget: float) -> float:
    """Of a call, queued one after the other with one wait at the end; the median of turns."""
    run()
    engine.synchronize()
    start = time.perf_counter()
    run()
    engine.synchronize()
    calls = int(min(2000, max(3, budget / TURNS / max(time.perf_counter() - start, 1e-6))))
    turns = []
    for _ in range(TURNS):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        engine.synchronize()
        turns.append((time.perf_counter() - start) / calls)
    return statistics.median(turns)


# Training steps -----------------------------------------------------------------------------


def measure_steps(
    report: dict[str, Any], configurations: list[Any], budget: float, compiled: bool, until: float
) -> None:
    """Seconds a step of every engine, captured or not, in float32 and TF32.

    compiled: with torch.compile. until: when to stop starting networks.
    """
    print(f"\n{'training step':<22}{'tf32':>5}  milliseconds (torch / minigrad captured)")
    rows = report.setdefault("steps", [])
    engines: list[tuple[str, Any, bool]] = [
        ("minigrad eager", MinigradGpu(), False),
        ("minigrad captured", MinigradGpu(), True),
        ("torch nchw", TorchGpu("torch nchw"), False),
        ("torch channels_last", TorchGpu("torch channels_last"), False),
        ("torch graph", TorchGpu("torch channels_last"), True),
    ]
    if compiled:
        engines.append(("torch compile", TorchGpu("torch compile channels_last"), False))
    for network, batch in configurations:
        if time.perf_counter() > until:
            print("… out of time: the other networks were not measured")
            break
        for tf32 in (False, True):
            row: dict[str, Any] = {"network": network, "batch": batch, "tf32": tf32, "seconds": {}}
            row["recorded"], row["checked"] = [], False
            rows.append(row)
            losses: dict[str, np.ndarray] = {}
            runs: dict[str, Callable[[], Any]] = {}
            for name, engine, captured in engines:
                what = f"{name}, {network} {batch}, tf32 {tf32}"
                with guarded(report, what), engine.tf32(tf32), engine.queue():
                    # torch's Adam keeps its step count on the GPU if it is told of a recording.
                    records = captured and isinstance(engine, TorchGpu) and engine.device == "cuda"
                    options = {"capturable": True} if records else {}
                    step, data = step_and_data(engine, network, batch, **options)
                    losses[name] = np.array([to_numpy(step(*data[i])) for i in range(2)])
                    runs[name] = cycled(engine.captured(step) if captured else step, data)
            tolerance = TF32_TOLERANCE if tf32 else TOLERANCE
            with guarded(report, f"losses of {network} {batch}, tf32 {tf32}"):
                ours, theirs = losses["minigrad eager"], losses["torch nchw"]
                check(f"{network} {batch}", [ours], [theirs], "torch nchw", tolerance)
                row["checked"] = True
            for name, engine, captured in engines:
                what = f"time of {name}, {network} {batch}, tf32 {tf32}"
                if name not in runs:
                    continue
                with guarded(report, what), engine.tf32(tf32), engine.queue():
                    for _ in range(3):
                        runs[name]()
                    row["seconds"][name] = seconds_of(engine, runs[name], budget)
                    if captured:
                        row["recorded"].append(name)
            mine = row["seconds"].get("minigrad captured", float("nan"))
            shown = "  ".join(
                f"{name.removeprefix('torch ')} {1e3 * t:.2f} ({t / mine:.2f}×)"
                for name, t in row["seconds"].items()
            )
            print(f"{network + ' ' + str(batch):<22}{'yes' if tf32 else 'no':>5}  {shown}")


# Kernels ------------------------------------------------------------------------------------


def measure_kernels(report: dict[str, Any], quick: bool, budget: float, until: float) -> None:
    """Each row of `bench.cases`, as a replayed graph."""
    print(f"\n{'kernel':<76}{'minigrad':>10}{'torch':>10}{'ratio':>8}")
    rows = report.setdefault("kernels", [])
    for case, step in cases.rows():
        if case.named or (quick and not case.quick):
            continue
        if time.perf_counter() > until:
            print("… out of time: the other kernels were not measured")
            break
        with guarded(report, case.label(step)):
            rows.append(_kernel(case, step, budget))
    ratios = [row["ratio"] for row in rows]
    if ratios:
        print(f"geometric mean {geometric_mean(ratios):.2f}×")


def _kernel(case: Case, step: Pass, budget: float) -> dict[str, Any]:
    engines: list[Any] = [MinigradGpu(), TorchGpu("torch nchw"), TorchGpu("torch channels_last")]
    runs: dict[str, tuple[Any, Callable[[], Any]]] = {}
    results: dict[str, list[np.ndarray]] = {}
    for engine in engines:
        with engine.tf32(False), engine.queue():
            for name, run in case.runs(engine, step).items():
                runs[name] = engine, run
                results[name] = [to_numpy(each) for each in run()]
    for name, theirs in results.items():
        if name != "minigrad":
            check(case.label(step), results["minigrad"], theirs, name, 1e-3)
    seconds: dict[str, float] = {}
    calls: dict[str, int] = {}  # in a recorded graph
    for name, (engine, run) in runs.items():
        with engine.tf32(False), engine.queue():
            count = CALLS if _once(engine, run) < SMALL_CALL else 1
            replay = _recorded(engine, run, count)
            if replay is None:
                seconds[name] = seconds_of(engine, run, budget)
            else:
                calls[name], seconds[name] = count, seconds_of(engine, replay, budget) / count
    ours = seconds.pop("minigrad")
    name = min(seconds, key=lambda each: seconds[each])
    best, note = seconds[name], "" if name in calls else "  torch was not recorded"
    print(
        f"{case.label(step):<76}{1e6 * ours:>8.1f}µs{1e6 * best:>8.1f}µs{best / ours:>7.2f}×{note}"
    )
    return {
        "label": case.label(step), "work": case.work(step), "bound": case.bound,
        "minigrad": ours, "torch": seconds, "ratio": best / ours, "recorded": calls,
    }  # fmt: skip


def _once(engine: Any, run: Callable[[], Any]) -> float:
    """Seconds of a call and the wait for it."""
    engine.synchronize()
    start = time.perf_counter()
    run()
    engine.synchronize()
    return time.perf_counter() - start


def _recorded(engine: Any, run: Callable[[], Any], count: int) -> Callable[[], Any] | None:
    """So many calls as a graph, or None where torch cannot record them: its optimizers, by
    default."""

    def calls() -> None:
        for _ in range(count):
            run()

    try:
        return engine.recorded(calls)
    except Exception as error:
        if isinstance(engine, MinigradGpu):
            raise
        print(f"{engine.name} did not record this: {type(error).__name__}: {error}")
        engine.synchronize()
        return None


# Checks -------------------------------------------------------------------------------------


def check_training(report: dict[str, Any], steps64: int = 50, steps32: int = 20) -> None:
    """Training CIFAR A on the GPU gives the CPU's losses: in float64 to 1e-6, float32 to 1e-3."""
    import minigrad as mg
    import minigrad.nn.functional as F
    from examples import networks

    def losses(device: str, dtype: Any, count: int, capture: bool) -> np.ndarray:
        mg.manual_seed(0)
        model = networks.cifar().to(device, dtype)
        optimizer = mg.optim.Adam(model.parameters(), lr=1e-3)
        drawn = batches((32, 32, 3), 16)

        def step(images: Any, labels: Any) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            return loss

        run = mg.capture(step) if capture else step
        found = []
        for index in range(count):
            images, labels = drawn[index % len(drawn)]
            x = mg.tensor(images.transpose(0, 3, 1, 2)).to(device, dtype)
            found.append(run(x, mg.tensor(labels, device=device)).item())
        return np.array(found)

    for name, count, tolerance in (("float64", steps64, 1e-6), ("float32", steps32, 1e-3)):
        dtype = getattr(mg, name)
        cpu = losses("cpu", dtype, count, capture=False)
        for capture in (False, True):
            what = f"CIFAR A, {count} steps in {name}{', captured' if capture else ''}"
            with guarded(report, what):
                gpu = losses("cuda", dtype, count, capture)
                error = float(np.max(np.abs(gpu - cpu) / np.abs(cpu)))
                report.setdefault("training_error", {})[what] = error
                print(f"{what}: largest relative error of the loss {error:.2e} (≤ {tolerance:g})")
                if not error <= tolerance:
                    raise AssertionError(f"{error:.3g} exceeds {tolerance:g}")


def made_with(mg: Any, torch: Any) -> dict[str, Any]:
    """GPU, driver, versions and commit."""
    from cuda.bindings import driver as api

    from minigrad.kernels.cuda._compile import compiler_versions

    driver = Path("/proc/driver/nvidia/version")
    found: dict[str, Any] = {
        **conditions(), "gpu": mg.cuda.get_device_name(),
        "capability": mg.cuda.get_device_capability(),
        "driver": driver.read_text().splitlines()[0] if driver.exists() else "unknown",
        "driver_cuda": api.cuDriverGetVersion()[1], "compilers": compiler_versions(),
        "torch_cuda": torch.version.cuda,
    }  # fmt: skip
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return {**found, "commit": git.stdout.strip() or "not in a repository"}


class Stopped(BaseException):
    """The program was told to end."""


def _stop(number: int, _: Any) -> None:
    raise Stopped(signal.Signals(number).name)


@contextmanager
def guarded(report: dict[str, Any], what: str) -> Any:
    """An error is printed and kept in the report."""
    try:
        yield
    except (Exception, SystemExit) as error:  # bench.measure.check ends programs
        traceback.print_exc()
        report.setdefault("failures", []).append(f"{what}: {type(error).__name__}: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one batch size, few kernels")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--minutes", type=float, default=9.0, help="when to stop starting kernels")
    options = parser.parse_args()
    started = time.perf_counter()

    import torch

    import minigrad as mg

    if reason := mg.cuda.why_unavailable():
        print(reason)
        return 1
    report = made_with(mg, torch)
    for name, value in report.items():
        print(f"{name}: {value}", flush=True)
    configurations = CONFIGURATIONS[1::3] if options.quick else CONFIGURATIONS
    until = started + 60 * options.minutes
    half = started + 30 * options.minutes
    sections: dict[str, Callable[[], None]] = {
        "training on GPU and CPU": lambda: check_training(report),
        "training steps": lambda: measure_steps(report, configurations, 0.3, options.compile, half),
        "kernels": lambda: measure_kernels(report, options.quick, 0.05, until),
    }
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        for name, section in sections.items():
            with guarded(report, name):
                section()
    except (KeyboardInterrupt, Stopped) as error:
        report.setdefault("failures", []).append(f"stopped before the end: {error!r}")
    finally:
        signal.signal(signal.SIGTERM, before)
        if options.json:
            options.json.write_text(json.dumps(report, indent=1) + "\n")
    for failure in report.get("failures", []):
        print(f"FAILED {failure}")
    return 1 if report.get("failures") else 0


if __name__ == "__main__":
    sys.exit(main())
