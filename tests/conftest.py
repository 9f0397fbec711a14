"""Hypothesis profiles, and the table of errors that the thorough one ends with.

pytest -n 2                                       # two processes share the work
pytest tests/test_ops.py --hypothesis-profile=thorough
MINIGRAD_TEST_DEVICE=cuda pytest                  # on a GPU
NUMBA_ENABLE_CUDASIM=1 MINIGRAD_TEST_DEVICE=cuda pytest tests/test_ops.py tests/cuda
"""

from __future__ import annotations

import os
from collections.abc import Callable

# Processes that run tests side by side leave each other the cores: threads that wait for a core
# that another process has would wait for milliseconds. Read when minigrad is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("MINIGRAD_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from minigrad.testing.oracle import Errors

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "ci", max_examples=15, derandomize=True, deadline=None, suppress_health_check=_SLOW_IS_FINE
)
settings.register_profile(
    "thorough", max_examples=1000, deadline=None, suppress_health_check=_SLOW_IS_FINE
)
# A thread of a simulated GPU is a thread of the host: few examples, on the same records.
settings.register_profile(
    "simulator", max_examples=5, derandomize=True, deadline=None,
    suppress_health_check=_SLOW_IS_FINE,
)  # fmt: skip
settings.load_profile("simulator" if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" else "ci")

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    table = terminalreporter.config.stash.get(_ERRORS, {})
    if not table or settings().max_examples < 1000:
        return
    terminalreporter.section("worst float32 errors, in ULP of the float64 result")
    terminalreporter.line(f"{'operation':<36}{'examples':>9}{'minigrad':>12}{'torch':>12}")
    for name, (examples, worst) in sorted(table.items()):
        terminalreporter.line(f"{name:<36}{examples:>9}{worst.minigrad:>12.3g}{worst.torch:>12.3g}")
