r"""Hypothesis profiles, and the table of errors that the thorough one ends with.

pytest -n 2                                       # two processes share the work
pytest -n 2 -m quick                              # a bit of everything
pytest tests/test_ops.py --hypothesis-profile=thorough
MINIGRAD_TEST_DEVICE=cuda pytest                  # on a GPU
MINIGRAD_EMULATED_GPU=1 MINIGRAD_TEST_DEVICE=cuda pytest \
    tests/cuda tests/ptx tests/recording tests/test_ops.py
MINIGRAD_EMULATED_GPU=7 …                         # in an order of blocks and threads of its own
MINIGRAD_WIDE_INDICES=1 MINIGRAD_EMULATED_GPU=1 … # with indices of 64 bits
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

# Processes that run tests side by side leave each other the cores: threads that wait for a core
# that another process has would wait for milliseconds. Read when minigrad is imported.
# No second process for each of the many that tests start.
os.environ.setdefault("MINIGRAD_COMPILE_AHEAD", "0")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("MINIGRAD_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

import minigrad.cuda
from minigrad.testing import ptx
from minigrad.testing.oracle import Errors

# Hypothesis draws numbers that it finds in the project's modules, too: in those that happen to be
# loaded, so that no two processes would draw the same. None is the project's own.
providers.is_local_module_file = lambda path: False  # type: ignore[attr-defined]

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "ci", max_examples=15, derandomize=True, deadline=None, suppress_health_check=_SLOW_IS_FINE
)
settings.register_profile(
    "thorough", max_examples=1000, deadline=None, suppress_health_check=_SLOW_IS_FINE
)
# An emulated GPU executes every instruction of every thread: few examples, on the same records.
settings.register_profile(
    "emulated", max_examples=5, derandomize=True, deadline=None,
    suppress_health_check=_SLOW_IS_FINE,
)  # fmt: skip

settings.register_profile(
    "quick", max_examples=3, derandomize=True, deadline=None, suppress_health_check=_SLOW_IS_FINE
)

# "1", or the order of what a GPU runs side by side, see ptx.install.
if _order := os.environ.get("MINIGRAD_EMULATED_GPU"):
    ptx.install(devices=2, order="both" if _order == "1" else _order)
settings.load_profile("emulated" if ptx.installed() else "ci")

# Kernels as they are for arrays of 2³¹ elements and more, without such arrays.
if os.environ.get("MINIGRAD_WIDE_INDICES"):
    from minigrad.kernels.cuda import _index, _launch

    _index.WIDE_FROM = 0
    _launch._NAMES[int] = "int64"

# What `-m quick` selects: values, gradients and errors of every operation, of three cases each, and
# what needs no compiler. A test's place is its file and name below this folder.
_QUICK = (
    "engine/", "optim/", "data/test_datasets", "data/test_loader", "nn/test_module", "nn/test_init",
    "test_creation", "test_devices", "test_geometry", "test_imports", "test_protocol",
    "test_ops.py::test_float64_values_and_gradients", "test_ops.py::test_bad_input",
)  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("markexpr") == "quick":
        settings.load_profile("quick")
    for item in items:
        if item.nodeid.removeprefix("tests/").startswith(_QUICK):
            item.add_marker(pytest.mark.quick)


def pytest_collection_finish() -> None:
    """The garbage collector leaves alone what is there before the first test: the tests, of which
    there are thousands, and torch. Otherwise each collection takes a second."""
    gc.collect()
    gc.freeze()


# Operation: number of examples, worst float32 errors.
_ERRORS = pytest.StashKey[dict[str, tuple[int, Errors]]]()


@pytest.fixture(scope="session")
def float32_errors(request: pytest.FixtureRequest) -> Callable[[str, Errors], None]:
    """Called with an operation's name and the errors of one case."""
    table = request.config.stash.setdefault(_ERRORS, {})

    def record(name: str, errors: Errors) -> None:
        examples, worst = table.get(name, (0, Errors()))
        table[name] = examples + 1, worst.worst(errors)

    return record


@pytest.fixture(autouse=ptx.installed())
def _gpu_faults() -> Iterator[None]:
    """What a kernel or a copy did wrong fails the test, also if nothing waited for it."""
    yield
    ptx.raise_faults()
    minigrad.cuda.empty_cache()  # its blocks fit arrays of the very same size only


# Processes that run tests side by side tell the first one what their GPUs did.
_LAUNCHES = pytest.StashKey[list[tuple[int, int]]]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    done = ptx.totals().launches, ptx.totals().instructions
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["launches"] = done
    else:
        session.config.stash.setdefault(_LAUNCHES, []).append(done)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if "launches" in getattr(node, "workeroutput", {}):
        node.config.stash.setdefault(_LAUNCHES, []).append(node.workeroutput["launches"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ptx.installed():
        done = terminalreporter.config.stash.get(_LAUNCHES, [])
        launches, instructions = (sum(each) for each in zip(*done, strict=True))
        terminalreporter.line(f"emulated GPU: {launches} launches, {instructions} instructions")
    table = terminalreporter.config.stash.get(_ERRORS, {})
    if not table or settings().max_examples < 1000:
        return
    terminalreporter.section("worst float32 errors, in ULP of the float64 result")
    terminalreporter.line(f"{'operation':<36}{'examples':>9}{'minigrad':>12}{'torch':>12}")
    for name, (examples, worst) in sorted(table.items()):
        terminalreporter.line(f"{name:<36}{examples:>9}{worst.minigrad:>12.3g}{worst.torch:>12.3g}")
