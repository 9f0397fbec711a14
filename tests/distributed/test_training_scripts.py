"""The training scripts on several processes: the losses of one process, the same bits in the
reproducible mode, also through a stop; and a process that is killed ends the others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minigrad import serialization

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    **os.environ, "MINIGRAD_NUM_THREADS": "1", "MPLBACKEND": "Agg",
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
}  # fmt: skip

# argv: a list of [script, arguments …] to run one after the other, then what kills: the rank, the
# function before which it is killed, at which call, and the file in which it notes the time.
DRIVER = """
import importlib, json, os, signal, sys, time
from pathlib import Path
from examples import train_cifar10, train_mnist


def kill_at(rank, function, call, stamp):
    module, _, path = function.partition(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original, left = getattr(owner, name), int(call)

    def counted(*args, **options):
        nonlocal left
        left -= 1
        if not left:
            Path(stamp).write_text(str(time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)

    if os.environ.get("PMI_RANK", "0") == rank:
        setattr(owner, name, counted)


runs, *killing = sys.argv[1:]
if killing:
    kill_at(*killing)
for script, *arguments in json.loads(runs):
    {"mnist": train_mnist, "cifar10": train_cifar10}[script].main(arguments)
"""

SMALL = ["--epochs", "2", "--limit", "128", "--rotation", "10", "--crop", "2"]
REPRODUCIBLE = [*SMALL, "--shards", "8"]

# A rank is killed before it calls a function, for the n-th time.
MOMENTS = [
    (1, "minigrad:Tensor.backward", 3),
    (0, "os:replace", 3),  # with the checkpoint of the first epoch written, but without its name
    (1, "minigrad.distributed:all_reduce", 4),
    (0, "minigrad:Tensor.backward", 1),
    (0, "examples.training:evaluate", 1),
    (1, "examples.training:evaluate", 2),
    (0, "safetensors.numpy:save_file", 1),
    (1, "minigrad.optim:Adam.step", 3),
    (1, "examples.recipe:Run", 1),
    (1, "minigrad.distributed:barrier", 2),  # with all epochs done, before the test
]


def started(ranks: int, runs: list[list[str]], *killing: Any) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    mpiexec = shutil.which("mpiexec", path=path)
    assert mpiexec is not None, "the extra 'mpi' brings mpiexec"
    return subprocess.Popen(
        [mpiexec, "-n", str(ranks), sys.executable, "-c", DRIVER, json.dumps(runs),
         *map(str, killing)],
        cwd=ROOT, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def run(ranks: int, *runs: list[str]) -> str:
    """What it printed."""
    process = started(ranks, list(runs))
    printed, _ = process.communicate(timeout=180)
    assert process.returncode == 0, printed
    return printed


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        apart = "seconds", "images_per_second", "train_images_per_second", "processes"
        return {key: without_times(each) for key, each in value.items() if key not in apart}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def figures(out: Path) -> dict[str, Any]:
    return json.loads((out / "metrics.json").read_text())


def assert_same_bits(out: Path, expected: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        mine, theirs = (serialization.load_file(folder / name) for folder in (out, expected))
        assert mine.keys() == theirs.keys()
        for key in mine:
            np.testing.assert_array_equal(mine[key].numpy(), theirs[key].numpy(), err_msg=key)
    assert without_times(figures(out)) == without_times(figures(expected))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For network B: 140 training and 20 test images of ten classes."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", 14), ("test", 2)):
        for label in range(10):
            place = root / part / str(label)
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 25 * (label + 1), (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> dict[tuple[str, int], Path]:
    """Where the runs of both scripts are, plain and reproducible, on 1, 2, 4 and 8 ranks."""
    root = tmp_path_factory.mktemp("runs")
    options = {
        "mnist": ["mnist", *SMALL],
        "mnist shards": ["mnist", *REPRODUCIBLE],
        # With the recipe's rate, eight steps on noise make 2 % of a rounding error.
        "B": ["cifar10", "--network", "B", "--epochs", "2", "--batch-size", "32", "--lr", "1e-3"],
    }
    options["B"] += ["--data-root", str(folder)]
    options["B shards"] = [*options["B"], "--shards", "8"]
    places = {}
    for ranks in (1, 2, 4, 8):
        session = []
        for name, arguments in options.items():
            if ranks == 8 and name != "mnist shards":
                continue
            places[name, ranks] = root / f"{name}-{ranks}".replace(" ", "-")
            session.append([*arguments, "--out", str(places[name, ranks])])
        printed = run(ranks, *session)
        assert printed.count("epoch  train_loss") == len(session)  # one report
        said = f"{ranks} processes share each batch"
        assert printed.count(said) == (len(session) if ranks > 1 else 0)
    return places


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("name", ["mnist", "B"])
def test_losses_are_those_of_one_process(
    runs: dict[tuple[str, int], Path], name: str, ranks: int
) -> None:
    mine, one = figures(runs[name, ranks]), figures(runs[name, 1])
    assert (mine["processes"], one["processes"]) == (ranks, 1)
    assert mine["settings"] == one["settings"]
    for left, right in zip(mine["history"], one["history"], strict=True):
        for key in ("train_loss", "val_loss"):
            assert left[key] == pytest.approx(right[key], rel=1e-4), key
    assert mine["test_loss"] == pytest.approx(one["test_loss"], rel=1e-4)


@pytest.mark.parametrize(("name", "counts"), [("mnist shards", (2, 4, 8)), ("B shards", (2, 4))])
def test_reproducible_runs_are_the_same_bits_on_any_number_of_ranks(
    runs: dict[tuple[str, int], Path], name: str, counts: tuple[int, ...]
) -> None:
    for ranks in counts:
        assert_same_bits(runs[name, ranks], runs[name, 1])


def test_a_killed_rank_ends_the_others_and_others_go_on_with_the_same_bits(
    runs: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    survive(MOMENTS[:3], tmp_path, runs["mnist shards", 1])


def survive(moments: list[tuple[int, str, int]], work: Path, expected: Path) -> None:
    """Kill a run at one moment after the other; compare what it ends with."""
    out, stamp = work / "run", work / "killed"
    arguments = ["mnist", *REPRODUCIBLE, "--out", str(out)]
    for number, moment in enumerate(moments):
        resumed = ["--resume"] if (out / "last.safetensors").exists() else []
        process = started(2 + number % 2, [[*arguments, *resumed]], *moment, stamp)
        printed, _ = process.communicate(timeout=180)
        ended = time.monotonic()
        assert stamp.exists(), f"{moment}: {printed}"
        assert ended - float(stamp.read_text()) < 10, moment
        assert process.returncode == signal.SIGKILL, printed
        print(f"{moment}: ended after {ended - float(stamp.read_text()):.1f} s")
        stamp.unlink()
        if (out / "last.safetensors").exists():
            serialization.load_checkpoint(out / "last.safetensors", generator=False)
    run(1, [*arguments, "--resume"])
    assert_same_bits(out, expected)


def test_what_is_wrong_is_said_once(tmp_path: Path) -> None:
    for arguments, status, message in (
        (["--shards", "0"], 2, "--shards: must be at least 1, got 0"),
        (["--shards", "1"], 1, "--shards 1 is too few for 2 processes"),
        (["--crop", "-1"], 1, "RandomCrop: padding must be"),
        (["--limit", "64", "--lr", "1e30"], 1, "The run diverged: the training loss of epoch 1"),
    ):
        process = started(2, [["mnist", *arguments, "--out", str(tmp_path)]])
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == status, printed
        assert printed.count(message) == 1, printed


if __name__ == "__main__":  # all moments: python tests/distributed/test_training_scripts.py
    with tempfile.TemporaryDirectory() as work:
        expected = Path(work) / "whole"
        run(1, ["mnist", *REPRODUCIBLE, "--out", str(expected)])
        survive(MOMENTS, Path(work), expected)
