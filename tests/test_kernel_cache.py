"""Compiled kernels are kept on disk: a second process compiles nothing."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent

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
        member = getattr(member, "kernel", member)
        stats = getattr(getattr(member, "func", member), "stats", None)
        if stats is not None and hasattr(stats, "cache_misses"):
            if stats.cache_misses:
                misses[name] = len(stats.cache_misses)
            hits += len(stats.cache_hits)
print(json.dumps({"compiled": compiled, "misses": misses, "hits": hits,
                  "sum": float(y.array.sum()), "grad": float(w.grad.array.sum())}))
"""

# Runs every record of the table, the kernels that the table does not reach, and tells what it used.
EVERYTHING = """
import json
from hypothesis import settings
settings.register_profile("same in every process", derandomize=True, deadline=None, database=None)
settings.load_profile("same in every process")

import numpy as np
import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, warmup
from minigrad.testing import checks
from opspecs import SPECS
from test_kernel_cache import kernels

for spec in SPECS:
    checks.run(checks.UNMUTATED, spec, 5)
for name in (
    "convolution", "chains of layers", "normalisation", "losses", "optimizers", "augmentation"
):
    warmup.STEPS[name](mg.float32)
for dtype in (mg.float32, mg.float64):
    mg.rand(4, dtype=dtype), mg.randn(4, dtype=dtype), mg.linspace(0, 1, 4, dtype=dtype)
mg.randint(0, 9, (4,)), mg.randperm(4), mg.arange(4), mg.tensor([2, 3]) ** 2
x = mg.randn(4, 4, requires_grad=True)
(F.gelu(F.dropout(x), approximate="tanh") + x[x > 0].sum()).sum().backward()
nn.utils.clip_grad_value_([x], 0.1)
for size in (4, 1 << 17):
    weight = nn.Parameter(mg.zeros(size))
    weight.sum().backward()
    mg.optim.SGD([weight], 0.1).step()
    mg.optim.Adam([weight], amsgrad=True).step()

from minigrad.kernels.cpu._jit import compilations

print(json.dumps({
    "compiled": compilations.count,
    "used": sum(len(k.overloads) for _, k in kernels()),
    "unused": sorted({n for n, _ in kernels()} - {n for n, k in kernels() if k.overloads}),
}))
"""


def run(script: str, **environment: str) -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "0", **environment},
        capture_output=True, text=True, cwd=TESTS,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return {"stderr": result.stderr, **json.loads(result.stdout.splitlines()[-1])}


def jitted() -> Iterator[tuple[str, Any]]:
    """All jitted functions of the CPU backend, kernels and helpers."""
    from numba.core.dispatcher import Dispatcher

    from minigrad.kernels import cpu

    for info in pkgutil.walk_packages(cpu.__path__, f"{cpu.__name__}."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            # Variants of a kernel stand in a tuple, or by their parameters.
            members = value.values() if isinstance(value, dict) else value
            for member in members if isinstance(value, (dict, tuple)) else (value,):
                member = getattr(member, "kernel", member)  # of a launcher made of a formula
                member = getattr(member, "func", member)  # a parallel kernel without its span
                if isinstance(member, Dispatcher) and member.py_func.__module__ == module.__name__:
                    yield f"{info.name.removeprefix(cpu.__name__ + '.')}.{name}", member


def kernels() -> list[tuple[str, Any]]:
    """Those that are cached: what Python code calls."""
    from numba.core.caching import NullCache

    return [(name, f) for name, f in jitted() if not isinstance(f._cache, NullCache)]


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    root = str(tmp_path)
    first, second = run(STEP, MINIGRAD_CACHE_DIR=root), run(STEP, MINIGRAD_CACHE_DIR=root)
    assert first["compiled"]  # else the listener is deaf
    assert first["misses"]
    assert second["compiled"] == []
    assert second["misses"] == {}
    assert second["hits"]
    assert (second["sum"], second["grad"]) == (first["sum"], first["grad"])
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("cpu-")
    # What takes so long is said in one line, and where it is kept.
    assert re.fullmatch(rf"minigrad: compiling \S+ \(.*{folder}\n", first["stderr"])
    assert second["stderr"] == ""


def test_a_second_process_compiles_no_kernel_of_any_operation() -> None:
    """In the cache that all tests share, so that the first process compiles nothing in vain."""
    first, second = run(EVERYTHING), run(EVERYTHING)
    assert second["compiled"] == 0
    assert second["used"] == first["used"]
    assert len(second["unused"]) <= len(kernels()) // 10, second["unused"]


def test_kernels_close_over_plain_ints_only() -> None:
    """A closure that holds a function makes Numba's cache miss in every process."""
    assert len(kernels()) > 100
    closures = {
        name: [cell.cell_contents for cell in f.py_func.__closure__ or ()] for name, f in jitted()
    }
    assert not {name: c for name, c in closures.items() if any(type(v) is not int for v in c)}


def test_what_kernels_take_from_other_files_is_part_of_the_cache_key() -> None:
    """Numba's key covers the kernel's own file, ours the shared ones. A helper or a constant from
    elsewhere could change without a new compilation."""
    from minigrad.kernels.cpu._jit import shared_sources

    covered, found = set(shared_sources()), []
    for name, function in jitted():
        source = function.py_func
        file = Path(inspect.getfile(source)).resolve()
        origin = {
            alias.asname or alias.name: file.parents[node.level - 1] / node.module.replace(".", "/")
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.ImportFrom) and node.level and node.module
            for alias in node.names
        }
        body = ast.parse(textwrap.dedent(inspect.getsource(source)))
        for node in ast.walk(body):
            module = origin.get(node.id) if isinstance(node, ast.Name) else None
            if module is not None and module.with_suffix(".py") not in covered:
                found.append(f"{name} uses {node.id} of {module}")
    assert not found


@pytest.mark.parametrize("shared", ["_exp.py", "conv/rows.py", "conv/rows_tile.py"])
def test_the_cache_folder_is_named_by_what_the_shared_files_contain(
    tmp_path: Path, shared: str
) -> None:
    """A copy of the sources gives the same name, a change in a shared file another."""
    from minigrad.kernels.cpu import _jit

    package = tmp_path / "minigrad"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(_jit.__file__).parents[2], package, ignore=ignore)
    script = """
import json
from minigrad.kernels.cpu import _jit
print(json.dumps({"name": _jit.CACHE_DIR.name}))
"""
    here = {"PYTHONPATH": str(tmp_path), "MINIGRAD_CACHE_DIR": str(tmp_path / "cache")}
    assert run(script, **here)["name"] == _jit.CACHE_DIR.name
    with (package / "kernels" / "cpu" / shared).open("a") as file:
        file.write("# changed\n")
    assert run(script, **here)["name"] != _jit.CACHE_DIR.name


def test_where_no_cache_can_be_written_kernels_are_compiled_all_the_same(tmp_path: Path) -> None:
    """And what this one process kept is removed when it ends."""
    blocked = tmp_path / "a file"
    blocked.touch()
    script = """
import json
import minigrad as mg
total = float(mg.ones(3).sum().item())
from minigrad.kernels.cpu import _jit
print(json.dumps({"total": total, "folder": str(_jit.CACHE_DIR)}))
"""
    told = run(script, MINIGRAD_CACHE_DIR=str(blocked), TMPDIR=str(tmp_path))
    assert told["total"] == 3
    assert Path(told["folder"]).parent == tmp_path
    assert list(tmp_path.iterdir()) == [blocked]
