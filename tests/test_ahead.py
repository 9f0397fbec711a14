"""The helper process compiles what will follow, and is never in the way."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import ahead, optim
from minigrad.runtime import ahead as process

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="waits for processes as Linux can"
)

STEP = """
import json, sys
import minigrad as mg
import minigrad.nn.functional as F
from minigrad import ahead, nn
from numba.core import event

model = nn.Sequential(
    nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(64, 10),
)
optimizer = mg.optim.SGD(model.parameters(), 0.1, momentum=0.9)
images, labels = mg.randn(8, 3, 8, 8), mg.zeros(8, dtype=mg.int64)

compiled = []

class Listener(event.Listener):
    def on_start(self, event):
        compiled.append(event.data["dispatcher"].py_func.__qualname__)

    def on_end(self, event):
        pass

def step():
    loss = F.cross_entropy(model(images), labels)
    event.register("numba:compile", listener := Listener())
    loss.backward()
    optimizer.step()
    event.unregister("numba:compile", listener)
    return loss.item()
"""

# The step, with what it tells the helper in a file.
DESCRIBE = f"""{STEP}
told = []
ahead.is_useful = lambda cache: True
ahead._helper.send = told.append
step()
with open(sys.argv[1], "wb") as file:
    for work in told:
        file.write(len(work).to_bytes(4, "little") + work)
print(json.dumps(compiled))
"""

# What the helper does with such a file.
COMPILE = """
import io, os, sys
from minigrad import ahead
from minigrad.runtime.ahead import receive
file = os.open(sys.argv[1], os.O_RDONLY)
while True:
    try:
        described = ahead._Maker(io.BytesIO(receive(file))).load()
    except EOFError:
        break
    ahead.compile_one(described)
"""


def python(script: str, *arguments: object, **environment: object) -> Any:
    settings = {key: str(value) for key, value in environment.items()}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "MINIGRAD_PROGRESS": "0", **settings},
    )  # fmt: skip


def output(script: str, *arguments: object, **environment: object) -> str:
    running = python(script, *arguments, **environment)
    told, errors = running.communicate()
    assert running.returncode == 0, errors
    return told


def test_what_follows_the_forward_pass_is_compiled_from_its_description(tmp_path: Path) -> None:
    described, cache = tmp_path / "described", tmp_path / "helper"
    alone = output(DESCRIBE, described, MINIGRAD_CACHE_DIR=tmp_path / "alone")
    assert len(json.loads(alone)) > 5
    output(COMPILE, described, MINIGRAD_CACHE_DIR=cache)
    again = output(STEP + "step(); print(json.dumps(compiled))", MINIGRAD_CACHE_DIR=cache)
    assert json.loads(again) == []


@pytest.mark.parametrize("name", [name for name in optim.__all__ if name[0].isupper()])
def test_every_optimizer_can_be_described(name: str) -> None:
    kind = getattr(optim, name)
    if kind is optim.Optimizer:
        return
    parameter = mg.zeros(3, requires_grad=True)
    options = ahead._options(kind([parameter], lr=0.1))
    assert ahead._is_optimizer(kind([parameter], lr=0.1))
    assert kind([parameter], **options).defaults == kind([parameter], lr=0.1).defaults


def test_arrays_are_described_by_shape_and_order() -> None:
    image = mg.zeros(2, 3, 4, 5).to(memory_format=mg.channels_last)
    described: list[bytes] = []
    send, ahead._helper.send = ahead._helper.send, described.append  # type: ignore[method-assign]
    try:
        ahead._describe((image, np.zeros((2, 3), np.int64).T, "a word"))
    finally:
        ahead._helper.send = send  # type: ignore[method-assign]
    tensor, array, word = ahead._Maker(io.BytesIO(described[0])).load()
    assert isinstance(tensor, mg.Tensor)
    assert (tensor.shape, tensor.array.strides) == (image.shape, image.array.strides)
    assert (array.shape, array.strides, array.dtype) == ((3, 2), (8, 24), np.int64)
    assert word == "a word"
    assert len(described[0]) < 1000


# When there is a helper -------------------------------------------------------------------------


@pytest.fixture
def useful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv(process.OFF)
    monkeypatch.setattr(process, "available_cores", lambda: 2)
    (tmp_path / "cpu-0").mkdir()
    assert process.is_useful(tmp_path / "cpu-0")
    return tmp_path / "cpu-0"


def test_no_helper_where_it_is_switched_off(useful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGRAD_COMPILE_AHEAD", "0")
    assert not process.is_useful(useful)


def test_no_helper_on_one_core(useful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "available_cores", lambda: 1)
    assert not process.is_useful(useful)


def test_no_helper_where_kernels_cannot_be_kept(
    useful: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not process.is_useful(useful.parents[1] / "a temporary folder")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert not process.is_useful(useful)


def test_no_helper_of_a_program_that_is_not_python(
    useful: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/application")
    assert not process.is_useful(useful)


HELPED = """
import os, sys
import minigrad as mg
from minigrad import ahead
from minigrad.runtime import ahead as process
process.available_cores = lambda: 2
mg.ones(10, requires_grad=True).sigmoid()
running = ahead._helper._process
print(running.pid if running else 0, flush=True)
"""


def test_a_program_that_finds_its_kernels_starts_no_helper(tmp_path: Path) -> None:
    environment = {"MINIGRAD_CACHE_DIR": tmp_path, "MINIGRAD_COMPILE_AHEAD": 1}
    assert output(HELPED, **environment) != "0\n"
    assert output(HELPED, **environment) == "0\n"


def test_a_program_without_gradients_starts_no_helper(tmp_path: Path) -> None:
    script = HELPED.replace(", requires_grad=True", "")
    assert output(script, MINIGRAD_CACHE_DIR=tmp_path, MINIGRAD_COMPILE_AHEAD=1) == "0\n"


def ends(pid: int) -> bool:
    """Wait until a process has ended; False if it has not after a minute."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 60)[0])
    finally:
        os.close(process)


@contextmanager
def helped(root: Path, end: str) -> Iterator[tuple[Any, int]]:
    """A program that has a helper, and the helper's pid."""
    running = python(HELPED + end, MINIGRAD_CACHE_DIR=root, MINIGRAD_COMPILE_AHEAD=1)
    with running:
        pid = int(running.stdout.readline() or 0)
        assert pid, running.stderr.read()
        yield running, pid


def test_the_helper_ends_with_the_program(tmp_path: Path) -> None:
    with helped(tmp_path, "") as (running, pid):
        assert running.wait() == 0
        assert ends(pid)
        assert running.stderr.read() == ""
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_helper_ends_with_a_program_that_is_stopped(tmp_path: Path, number: int) -> None:
    with helped(tmp_path, "sys.stdin.read()") as (running, pid):
        running.send_signal(number)
        assert running.wait() == -number
        assert ends(pid)


def test_a_forked_child_does_not_keep_the_helper(tmp_path: Path) -> None:
    end = """
child = os.fork()
if not child:
    sys.stdin.read()
    os._exit(0)
"""
    with helped(tmp_path, end) as (running, pid):
        assert running.wait() == 0
        assert ends(pid)  # though the child still runs
        running.stdin.close()
