"""Ctrl-C during compilation: it waits until the kernel is compiled, and is not lost.

Python turns the signal into KeyboardInterrupt wherever it happens to be. In the middle of a
compilation that may be a callback from LLVM or a finalizer, from which no exception gets out.
"""

from __future__ import annotations

import signal
import threading
from typing import Any


class Deferred:
    """Inside the `with` block Ctrl-C is noted, at its end it is delivered; a second one at once.

    elsewhere: deliver it from another thread soon after, for a block in a callback from C.
    """

    _current: Deferred | None = None  # the outermost block of the main thread

    def __init__(self, elsewhere: bool = False) -> None:
        self._elsewhere = elsewhere
        self._pending = False
        self._handler: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # which does not get it
        handler = signal.getsignal(signal.SIGINT)
        if Deferred._current is None and callable(handler):
            self._handler, Deferred._current = handler, self
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if self._pending:
            self._handler(number, frame)
        self._pending = True

    def __exit__(self, *_: object) -> None:
        if Deferred._current is not self:
            return
        Deferred._current = None
        signal.signal(signal.SIGINT, self._handler)
        if self._elsewhere and self._pending:
            threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]).start()
        else:
            self.deliver()

    def deliver(self) -> None:
        if self._pending and not self._elsewhere:
            self._pending = False
            self._handler(signal.SIGINT, None)


def deliver() -> None:
    """A place where Ctrl-C may take effect although it was deferred."""
    current = Deferred._current
    if current is not None and threading.current_thread() is threading.main_thread():
        current.deliver()
