"""Compilation progress: says which kernel is being compiled, so that a first use does not look like
a hang.

Numba announces each compilation, and none when it finds the kernel in its cache on disk. So once
the kernels are there, this costs nothing.

On a terminal, one line of standard error is rewritten while a kernel compiles and cleared after it:

    minigrad: compiling max_pool2d_forward (float32) … 7 kernels, 12 s

Elsewhere (a log file, a notebook) there is one plain line in all, at the first compilation.
MINIGRAD_PROGRESS=0 silences both.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event, types

from .ahead import at_compilation


class CompilationProgress(event.Listener):
    """Reports the compilations of functions whose module lies in `package`.

    count, seconds: what was compiled so far. Helpers compiled on the way count as part of the
    kernel that calls them. Numba's compiler lock keeps other threads out between start and end.
    """

    def __init__(self, package: str, cache: object) -> None:
        self.count = 0
        self.seconds = 0.0
        self._package = package + "."
        self._cache = cache
        self._kernel: Any = None
        self._start = 0.0
        self._said = False
        self._columns = 0  # of the line that is on the terminal now
        self._show: Callable[[str], None] | None = None

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        module = function.__module__ or ""  # None of one that exec has made
        if self._kernel is not None or not module.startswith(self._package):
            return
        self._kernel, self._start = event.data["dispatcher"], time.perf_counter()
        self.count += 1
        self._report(f"{function.__name__.lstrip('_')}{_dtypes(event.data['args'])}")
        for call in at_compilation:
            call()

    def on_end(self, event: Any) -> None:
        if event.data["dispatcher"] is not self._kernel:
            return
        self._kernel = None
        self.seconds += time.perf_counter() - self._start
        self._rewrite("")

    def _report(self, kernel: str) -> None:
        if self._show is not None:
            self._show(kernel)
        elif os.environ.get("MINIGRAD_PROGRESS") == "0":
            return
        elif _is_terminal():
            kernels = "1 kernel" if self.count == 1 else f"{self.count} kernels"
            text = f"minigrad: compiling {kernel} … {kernels}, {self.seconds:.0f} s"
            self._rewrite(text[: shutil.get_terminal_size().columns - 1])
        elif not self._said:
            self._said = True
            _write(
                f"minigrad: compiling {kernel} and whatever else is used for the first time, up "
                f"to a minute in all; kept in {self._cache}\n"
            )

    def _rewrite(self, text: str) -> None:
        """Put `text` in the place of the line that is on the terminal, if any is."""
        if self._columns:
            _write("\r" + " " * self._columns + "\r")
        _write(text)
        self._columns = len(text)

    @contextmanager
    def shown_by(self, show: Callable[[str], None]) -> Iterator[None]:
        """Inside the `with` block, show(kernel) is called instead."""
        outer, self._show = self._show, show
        try:
            yield
        finally:
            self._show = outer


def report_compilations(package: str, cache: object) -> CompilationProgress:
    """From now on, say what of `package` is compiled; `cache` is where it is kept."""
    progress = CompilationProgress(package, cache)
    event.register("numba:compile", progress)
    return progress


def _dtypes(args: tuple[Any, ...]) -> str:
    """The element types of the array arguments, each once."""
    arrays = (a.type if isinstance(a, types.Optional) else a for a in args)
    names = dict.fromkeys(str(a.dtype) for a in arrays if isinstance(a, types.Array))
    return f" ({', '.join(names)})" if names else ""


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # no standard error, or a closed one
        return False


def _write(text: str) -> None:
    if not text:
        return
    # A message must never be the reason why a computation fails.
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (AttributeError, ValueError, OSError):
        pass
