"""The first use of a kernel says what is being compiled, once, and only of our own kernels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import event

from minigrad.runtime import compilation
from minigrad.runtime.compilation import CompilationProgress


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture
def progress() -> Iterator[CompilationProgress]:
    progress = CompilationProgress("ours", "the cache")
    event.register("numba:compile", progress)
    yield progress
    event.unregister("numba:compile", progress)


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def stderr(request: Any, monkeypatch: Any) -> Stream:
    monkeypatch.delenv("MINIGRAD_PROGRESS", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return put_in_place(Stream(request.param), monkeypatch)


def put_in_place(stream: Stream | None, monkeypatch: Any) -> Any:
    # Not sys.stderr itself: pytest has its hands on that.
    monkeypatch.setattr(compilation, "sys", SimpleNamespace(stderr=stream))
    return stream


def jitted(name: str, module: str = "ours.kernels", calls: Any = None) -> Any:
    def function(out, x):
        out[0] = x[0] + 1

    def caller(out, x):
        calls(out, x)

    made = function if calls is None else caller
    made.__name__, made.__module__ = name, module
    return numba.njit(made)


def use(function: Any, dtype: Any = np.float32) -> None:
    out, x = np.zeros(1, dtype), np.ones(1, np.int64)
    function(out, x)
    assert out[0] == 2


def on_screen(text: str) -> list[str]:
    """What a terminal's last line shows after each write that starts it anew."""
    return [part.rstrip() for part in text.split("\r")]


def test_each_compilation_is_shown_and_a_warm_call_is_not(progress, stderr) -> None:
    first, second = jitted("_relu"), jitted("norm")
    use(first)
    use(second)
    use(first, np.float64)
    told = stderr.getvalue()
    if stderr.isatty():
        assert "\n" not in told
        lines = [line for line in on_screen(told) if line]
        assert [line.rsplit(", ", 1)[0] for line in lines] == [
            "minigrad: compiling relu (float32, int64) … 1 kernel",
            "minigrad: compiling norm (float32, int64) … 2 kernels",
            "minigrad: compiling relu (float64, int64) … 3 kernels",
        ]
        assert on_screen(told)[-1] == ""  # cleared for what the program prints next
    else:
        assert told == (
            "minigrad: compiling relu (float32, int64) and whatever else is used for the first "
            "time, up to a minute in all; kept in the cache\n"
        )
    assert progress.count == 3
    assert progress.seconds > 0
    use(first)
    use(second)
    assert stderr.getvalue() == told


def test_functions_of_others_are_not_reported(progress, stderr) -> None:
    use(jitted("relu", module="theirs"))
    use(jitted("relu", module="ourselves.kernels"))
    use(jitted("relu", module=None))  # as of a function that exec has made
    assert stderr.getvalue() == ""
    assert progress.count == 0


def test_a_helper_counts_as_part_of_its_kernel(progress, stderr) -> None:
    use(jitted("kernel", calls=jitted("helper")))
    assert progress.count == 1
    assert "compiling kernel" in stderr.getvalue()
    assert "helper" not in stderr.getvalue()


def test_a_kernel_that_a_users_function_calls_is_reported(progress, stderr) -> None:
    use(jitted("theirs", module="theirs", calls=jitted("ours")))
    assert progress.count == 1
    assert "compiling ours" in stderr.getvalue()


def test_a_failed_compilation_ends_the_line(progress, stderr) -> None:
    with pytest.raises(numba.TypingError):
        jitted("broken")(None, None)
    use(jitted("kernel"))
    assert progress.count == 2
    if stderr.isatty():
        assert on_screen(stderr.getvalue())[-1] == ""


def test_an_environment_variable_silences_it(progress, stderr, monkeypatch) -> None:
    monkeypatch.setenv("MINIGRAD_PROGRESS", "0")
    use(jitted("kernel"))
    assert stderr.getvalue() == ""


def test_a_line_is_no_longer_than_the_terminal_is_wide(progress, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stderr = put_in_place(Stream(terminal=True), monkeypatch)
    use(jitted("a_kernel_of_a_long_name"))
    lines = stderr.getvalue().split("\r")
    assert max(map(len, lines)) == 29


@pytest.mark.parametrize("state", ["none", "closed"])
def test_a_process_without_standard_error_compiles_as_well(progress, monkeypatch, state) -> None:
    closed = Stream(terminal=True)
    closed.close()
    put_in_place(None if state == "none" else closed, monkeypatch)
    use(jitted("kernel"))
    assert progress.count == 1


def test_somebody_else_can_show_the_kernels(progress, stderr) -> None:
    shown: list[str] = []
    with progress.shown_by(shown.append):
        use(jitted("kernel"))
    assert shown == ["kernel (float32, int64)"]
    assert stderr.getvalue() == ""
    use(jitted("another"))
    assert len(shown) == 1
    assert "another" in stderr.getvalue()
