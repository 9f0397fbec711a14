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

    _pending = False

    def __init__(self, elsewhere: bool = False) -> None:
        self._elsewhere = elsewhere
        self._handler: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # the main thread gets it
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler) and getattr(handler, "__func__", None) is not Deferred._note:
            Deferred._pending = False
            self._handler = handler
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if Deferred._pending:
            self._handler(number, frame)
        Deferred._pending = True

    def __exit__(self, *_: object) -> None:
        if self._handler is None:
            return
        signal.signal(signal.SIGINT, self._handler)
        if self._elsewhere and Deferred._pending:
            threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]).start()
        else:
            deliver(self._handler)


def deliver(handler: Any = signal.default_int_handler) -> None:
    """If Ctrl-C was noted, it takes effect here."""
    if Deferred._pending:
        Deferred._pending = False
        handler(signal.SIGINT, None)
