"""Compiled kernels are kept on disk: a second process compiles nothing."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

STEP = """
import json
import numpy as np
import numba
from numba.core import event

compiled = []

class Listener(event.Listener):
    def on_start(self, e):
        compiled.append(str(e.data["dispatcher"].py_func.__qualname__))

    def on_end(self, e):
        pass

event.register("numba:compile", Listener())

from minigrad import Tensor
from minigrad.nn import functional as F

generator = np.random.default_rng(0)
def tensor(*shape):
    return Tensor(generator.standard_normal(shape).astype(np.float32), requires_grad=True)

x, w, b = tensor(2, 3, 8, 8), tensor(8, 3, 3, 3), tensor(8)
y = F.relu(F.conv2d(x, w, b, padding=1))
y.backward(Tensor(np.ones(y.shape, np.float32)))

from minigrad.kernels import cpu

misses, hits = {}, 0
import sys
for module in [m for n, m in list(sys.modules.items()) if n.startswith("minigrad.kernels.cpu")]:
    for name, member in vars(module).items():
        stats = getattr(member, "stats", None)
        if stats is not None and hasattr(stats, "cache_misses"):
            if stats.cache_misses:
                misses[name] = len(stats.cache_misses)
            hits += len(stats.cache_hits)
print(json.dumps({"compiled": compiled, "misses": misses, "hits": hits,
                  "sum": float(y.data.sum()), "grad": float(w.grad.data.sum())}))
"""


def run(cache: Path) -> dict[str, Any]:
    environment = {**os.environ, "MINIGRAD_CACHE_DIR": str(cache)}
    result = subprocess.run(
        [sys.executable, "-c", STEP], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    first, second = run(tmp_path), run(tmp_path)
    assert first["compiled"]  # else the listener is deaf
    assert first["misses"]
    assert second["compiled"] == []
    assert second["misses"] == {}
    assert second["hits"]
    assert (second["sum"], second["grad"]) == (first["sum"], first["grad"])
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("cpu-")


def test_kernels_close_over_plain_ints_only() -> None:
    """A closure that holds a function makes Numba's cache miss in every process."""
    from numba.core.dispatcher import Dispatcher

    from minigrad.kernels import cpu

    kernels = {}
    for info in pkgutil.iter_modules(cpu.__path__):
        module = importlib.import_module(f"{cpu.__name__}.{info.name}")
        for name, member in vars(module).items():
            if isinstance(member, Dispatcher):
                kernels[f"{info.name}.{name}"] = member.py_func.__closure__ or ()
    assert len(kernels) > 10
    closures = {
        name: [cell.cell_contents for cell in closure if type(cell.cell_contents) is not int]
        for name, closure in kernels.items()
    }
    assert not {name: held for name, held in closures.items() if held}
