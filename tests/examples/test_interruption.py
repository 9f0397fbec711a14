"""A training run that is killed, or stopped by Ctrl-C, again and again, ends with the same bits.

Each attempt is a process of its own. What stops it is a signal that it sends itself at a chosen
moment: in the middle of an epoch, with a file half written, just before or just after a file gets
its name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import serialization

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 6
STEPS = 36  # of an epoch: 1,140 images in batches of 32

# argv: how to end, when, a part of the name of a file, which occurrence, then train_mnist's own.
# A signal is sent "before" or "after" the file is renamed to its name, "within" its writing, when
# half of it is there, or after so many steps of training ("step").
DRIVER = """
import os, signal, sys
from pathlib import Path
import safetensors.numpy
from examples import train_mnist
from minigrad.recording import CapturedStep

ending, moment, name, occurrence, *arguments = sys.argv[1:]
signals = {"kill": [signal.SIGKILL], "ctrl-c": [signal.SIGINT], "ctrl-c twice": [signal.SIGINT] * 2}
left = int(occurrence)


def meet(path=""):
    global left
    if name in os.path.basename(os.fspath(path)):
        left -= 1
        return left == 0
    return False


def end():
    for each in signals[ending]:
        os.kill(os.getpid(), each)


replace, write, write_text, step = (
    os.replace, safetensors.numpy.save_file, Path.write_text, CapturedStep.__call__
)


def replaced(source, target):
    met = meet(target)
    if met and moment == "before":
        end()
    replace(source, target)
    if met and moment == "after":
        end()


def written(tensors, path, metadata=None):
    write(tensors, path, metadata)
    if meet(path):
        os.truncate(path, os.path.getsize(path) // 2)
        end()


def text_written(path, text, *rest, **options):
    if meet(path):
        write_text(path, text[: len(text) // 2], *rest, **options)
        end()
    return write_text(path, text, *rest, **options)


def stepped(self, *args):
    step(self, *args)
    if meet():
        end()


if moment in ("before", "after"):
    os.replace = replaced
elif moment == "within":
    safetensors.numpy.save_file, Path.write_text = written, text_written
elif moment == "step":
    CapturedStep.__call__ = stepped
train_mnist.main(arguments)
"""

ENVIRONMENT = {
    **os.environ,
    "MINIGRAD_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "MPLBACKEND": "Agg",
}


def start(out: Path, *moment: str, resume: bool) -> subprocess.Popen[str]:
    arguments = ["--epochs", str(EPOCHS), "--out", str(out), *(["--resume"] if resume else [])]
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *moment, *arguments],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def attempt(out: Path, *moment: str) -> tuple[int, str]:
    """One process, which resumes if there is a checkpoint: its exit status and what it printed."""
    process = start(out, *moment, resume=(out / "last.safetensors").exists())
    printed, _ = process.communicate(timeout=120)
    return process.returncode, printed


def tensors(path: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in serialization.load_file(path).items()}


def epochs_done(out: Path) -> int | None:
    """Epochs in the last checkpoint, all of which is read; None if there is none yet."""
    if not (out / "last.safetensors").exists():
        return None
    assert tensors(out / "last.safetensors")
    return len(serialization.load_checkpoint(out / "last.safetensors")["history"])


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: without_times(each)
            for key, each in value.items()
            if "seconds" not in key and "per_second" not in key
        }
    return [without_times(each) for each in value] if isinstance(value, list) else value


def assert_same_run(out: Path, expected: Path) -> None:
    """Bit for bit, but for times: the last and the best weights and all figures. Nothing else is
    left, of however many attempts."""
    files = {"last.safetensors", "best.safetensors", "metrics.json", "curves.png"}
    assert {file.name for file in out.iterdir()} == files
    for name in ("last.safetensors", "best.safetensors"):
        mine, theirs = tensors(out / name), tensors(expected / name)
        assert mine.keys() == theirs.keys()
        for key in mine:
            np.testing.assert_array_equal(mine[key], theirs[key], err_msg=f"{name}: {key}")
            assert mine[key].dtype == theirs[key].dtype
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (out, expected)]
    assert without_times(figures[0]) == without_times(figures[1])
    assert len(figures[0]["history"]) == EPOCHS


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbs but a reader, who opens the checkpoint as often as he can."""
    out = tmp_path_factory.mktemp("whole")
    process = start(out, "kill", "never", "", "0", resume=False)
    seen = set()
    while process.poll() is None:
        seen.add(epochs_done(out))
        time.sleep(0.005)
    assert process.returncode == 0, process.communicate()[0]
    assert {0, EPOCHS} <= seen <= {None, *range(EPOCHS + 1)}
    return out


def test_a_run_killed_at_every_delicate_moment_ends_with_the_same_bits(
    whole: Path, tmp_path: Path
) -> None:
    # The moment, and the epochs in the checkpoint afterwards. A fresh run writes `last` once before
    # its first epoch, then `best` (if it is) and `last` after each.
    for *moment, done in (
        ("within", ".last.safetensors", "1", None),
        ("step", "", str(STEPS // 2), 0),
        ("within", ".best.safetensors", "1", 0),
        ("after", "best.safetensors", "1", 0),  # the best weights are of an epoch that is repeated
        ("within", ".last.safetensors", "2", 0),
        ("before", "last.safetensors", "3", 1),
        ("after", "last.safetensors", "2", 3),
        ("within", "metrics.json", "1", EPOCHS),
    ):
        status, printed = attempt(tmp_path, "kill", *moment)
        assert status == -signal.SIGKILL, f"{moment}: {printed}"
        assert epochs_done(tmp_path) == done, f"{moment}: {printed}"
    status, printed = attempt(tmp_path, "kill", "never", "", "0")
    assert status == 0, printed
    assert_same_run(tmp_path, whole)


def test_a_run_killed_from_outside_at_random_moments_ends_with_the_same_bits(
    whole: Path, tmp_path: Path
) -> None:
    for delay in np.random.default_rng(0).uniform(0, 0.3, 2):  # seconds after the first epoch
        process = start(
            tmp_path, "kill", "never", "", "0", resume=epochs_done(tmp_path) is not None
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.split()[:1] == ["1"]:  # its row in the table
                break
        time.sleep(delay)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        epochs_done(tmp_path)  # reads it
    status, printed = attempt(tmp_path, "kill", "never", "", "0")
    assert status == 0, printed
    assert_same_run(tmp_path, whole)


def test_ctrl_c_ends_cleanly_and_loses_only_the_epoch(whole: Path, tmp_path: Path) -> None:
    status, printed = attempt(tmp_path, "ctrl-c", "step", "", str(STEPS + 5))
    assert status == 130
    assert "Interrupted in epoch 2" in printed
    assert epochs_done(tmp_path) == 1
    # A second Ctrl-C stops at once, in the middle of saving too: nothing half written stays behind.
    status, printed = attempt(tmp_path, "ctrl-c twice", "within", ".last.safetensors", "2")
    assert status == 130, printed
    assert "Interrupted." in printed
    assert "Traceback" not in printed
    assert epochs_done(tmp_path) == 2
    names = {"last.safetensors", "best.safetensors"}
    assert {file.name for file in tmp_path.iterdir()} == names
    status, printed = attempt(tmp_path, "kill", "never", "", "0")
    assert status == 0, printed
    assert_same_run(tmp_path, whole)


def test_of_two_that_start_at_once_one_trains(whole: Path, tmp_path: Path) -> None:
    both = [start(tmp_path, "kill", "never", "", "0", resume=False) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], printed
    (refused,) = (p for process, p in zip(both, printed, strict=True) if process.returncode)
    assert f"{tmp_path} is in use by another process" in refused or "holds a run" in refused
    assert "Traceback" not in refused
    assert_same_run(tmp_path, whole)


def test_ctrl_c_while_modules_are_imported_has_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    )
    for name in ("train_mnist.py", "train_cifar10.py"):
        process = subprocess.run(
            [sys.executable, str(ROOT / "examples" / name)], cwd=tmp_path, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True,
        )  # fmt: skip
        assert process.returncode == -signal.SIGINT  # which a shell calls 130
        assert process.stderr == "\nInterrupted.\n"
