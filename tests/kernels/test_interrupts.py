"""Ctrl-C while kernels compile becomes KeyboardInterrupt, whatever is going on at the moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Presses Ctrl-C at one of many moments of a compilation: {moment} has to call press().
SCRIPT = """
import os, signal, sys
import minigrad as mg
from minigrad.kernels import cpu
from numba.core import codegen, event

pressed = 0

def press():
    global pressed
    if not pressed:
        pressed = 1
        os.kill(os.getpid(), signal.SIGINT)

def around(owner, name):
    inner = getattr(owner, name)
    def wrapped(*args):
        press()
        return inner(*args)
    setattr(owner, name, wrapped)

{moment}

try:
    mg.ones(1 << 16) + mg.arange(float(1 << 16))
    print("finished")
except KeyboardInterrupt:
    print("heard")
assert pressed
# And all is well afterwards.
restored = signal.getsignal(signal.SIGINT) is signal.default_int_handler
print((mg.ones(1 << 16) + 1).sum().item(), restored)
"""

IN_A_PASS = """
class Listener(event.Listener):
    def on_start(self, event):
        if event.data["name"].startswith({name!r}):
            press()
    def on_end(self, event):
        pass
event.register("numba:run_pass", Listener())
"""

IN_A_FINALIZER = """
class Finalized:
    def __del__(self):
        press()
lower = codegen.CPUCodeLibrary.finalize
def finalize(self):
    Finalized()
    return lower(self)
codegen.CPUCodeLibrary.finalize = finalize
"""

# Numba gives these to LLVM when it makes its engine, which it has done by now.
IN_A_CALLBACK = """
library = codegen.JITCodeLibrary
engine = cpu.elementwise.add_forward.kernel.func.targetctx.codegen()._engine
def compiled(module, buffer):
    press()
    return library._object_compiled_hook(module, buffer)
engine.set_object_cache(compiled, library._object_getbuffer_hook)
"""

MOMENTS = {
    "translating": IN_A_PASS.format(name="translate_bytecode"),
    "typing": IN_A_PASS.format(name="nopython_type_inference"),
    "lowering": IN_A_PASS.format(name="native_lowering"),
    "lowering a helper": IN_A_PASS.format(name="helper_lowering"),
    "the last pass": IN_A_PASS.format(name="nopython_backend"),
    "optimising": "around(codegen.CPUCodeLibrary, '_optimize_final_module')",
    "a finalizer": IN_A_FINALIZER,
    "a callback of LLVM": IN_A_CALLBACK,
    "starting workers": "around(cpu._workers, 'callback')",
    "keeping the kernel": "around(cpu._cache._Files, 'save')",
}


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_is_heard(moment: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{moment}", MOMENTS[moment])],
        capture_output=True, text=True,
        env={
            **os.environ, "MINIGRAD_CACHE_DIR": str(tmp_path), "MINIGRAD_PROGRESS": "0",
            "MINIGRAD_NUM_THREADS": "2",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["heard", "131072.0", "True"], done.stderr
    assert "ignored" not in done.stderr
    assert not list(tmp_path.rglob("*.lock"))


WAITING = """
import sys
import minigrad as mg
from minigrad.kernels.cpu import _cache
locked = _cache._locked
def never(file):
    print("waiting", flush=True)
    return False
_cache._locked = never
try:
    mg.ones(10) + mg.arange(10.0)
except KeyboardInterrupt:
    print("heard")
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_is_heard_while_another_process_compiles(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "MINIGRAD_CACHE_DIR": str(tmp_path), "MINIGRAD_PROGRESS": "0"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().splitlines()[-1] == "heard"
    assert process.returncode == 0
