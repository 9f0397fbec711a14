"""Helper process: a second one, which compiles kernels that this one will need soon.

It is started by the first compilation of which something follows, gets descriptions of work through
a pipe (minigrad/ahead.py), and leaves compiled kernels in the cache on disk, where this process
finds them when it comes to them (kernels/cpu/_cache.py). It has a fresh interpreter, so nothing is
forked while threads run. It ends with this process, whose end closes the pipe, or when it has had
no work for a while. Nothing here ever waits for it or fails because of it: what it has not compiled
is compiled as ever.

There is none with MINIGRAD_COMPILE_AHEAD=0, on one core, where the cache cannot be written, or on
Windows.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from ..device import available_cores
from .cache import cache_root

# Called at the beginning of each compilation of a kernel.
at_compilation: list[Callable[[], None]] = []

OFF = "MINIGRAD_COMPILE_AHEAD"


def is_useful(cache: Path) -> bool:
    """Whether a helper could run, and leave its kernels in this folder."""
    return (
        os.name == "posix"
        and os.environ.get(OFF) != "0"
        and "python" in Path(sys.executable or "").name  # not a program that has Python inside
        and not getattr(sys, "frozen", False)
        and available_cores() > 1
        and os.access(cache, os.W_OK)
        and _is_kept(cache)
    )


def _is_kept(cache: Path) -> bool:
    try:
        return cache.parent == cache_root()
    except RuntimeError:  # the user has no home folder
        return False


class Helper:
    """One process at most, started when there is work."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self.stop)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def send(self, work: bytes) -> None:
        """Hand over a description; it is dropped if the helper does not listen."""
        with self._lock:
            try:
                if self._process is None or self._process.poll() is not None:
                    self._process = self._started()
                message = len(work).to_bytes(4, "little") + work
                pipe = self._process.stdin
                if pipe is None or os.write(pipe.fileno(), message) < len(message):
                    self._stop()
            except OSError:  # no process can be started, or this one is full or gone
                self._stop()

    def _started(self) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        process = subprocess.Popen(
            [sys.executable, "-c", self._command],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, bufsize=0,
            start_new_session=True,  # Ctrl-C is not for it
            env={
                **os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1",
                "MINIGRAD_NUM_THREADS": "1", OFF: "0",
            },
        )  # fmt: skip
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def stop(self) -> None:
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(1)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()

    def _forget(self) -> None:
        """In a forked child, which must not hold the parent's end of the pipe."""
        self._lock = threading.Lock()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.returncode = 0  # not the child's to wait for
        self._process = None


def receive(pipe: int) -> bytes:
    """The next description from the pipe; EOFError at its end."""
    return _read(pipe, int.from_bytes(_read(pipe, 4), "little"))


def _read(pipe: int, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = os.read(pipe, size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts
