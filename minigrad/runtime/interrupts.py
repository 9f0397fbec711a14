"""Ctrl-C during compilation: it waits until the kernel is compiled, and is not lost.

Python turns the signal into KeyboardInterrupt wherever it happens to be. In the middle of a
compilation that may be a callback from LLVM or a finalizer, from which no exception gets out.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any


class Deferred:
    """Inside the `with` block Ctrl-C is noted, at its end it is delivered; a second one at once.

    callback: the block is in a function that C calls, from which no exception gets out. Another
    thread sends the signal again until it meets the main thread outside of that function.
    """

    _current: Deferred | None = None  # the outermost block of the main thread

    def __init__(self, callback: bool = False) -> None:
        self._callback: FrameType | None = sys._getframe(1) if callback else None
        self._pending = self._left = False
        self._lock = threading.Lock()
        self._handler: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # which does not get it
        handler = signal.getsignal(signal.SIGINT)
        if Deferred._current is not None or not callable(handler):
            return
        before = getattr(handler, "__self__", None)
        if isinstance(before, Deferred):  # whose signal is still under way: now it is for this one
            with before._lock:
                before._callback = None
            handler = before._handler
        self._handler, Deferred._current = handler, self
        signal.signal(signal.SIGINT, self._note)
        self._pending = isinstance(before, Deferred)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._left:
            if self._pending:
                self._handler(number, frame)
            self._pending = True
            return
        while frame is not None and frame is not self._callback:
            frame = frame.f_back
        if frame is None and self._callback is not None:
            with self._lock:
                self._callback = None  # from here on nothing is sent
            signal.signal(signal.SIGINT, self._handler)
            self.deliver()

    def __exit__(self, *_: object) -> None:
        if Deferred._current is not self:
            return
        Deferred._current = None
        if self._callback and self._pending:
            self._left = True
            threading.Thread(target=self._send_again, daemon=True).start()
        else:
            signal.signal(signal.SIGINT, self._handler)
            self._callback = None
            self.deliver()

    def _send_again(self) -> None:
        while True:
            with self._lock:
                if self._callback is None:
                    return
                signal.raise_signal(signal.SIGINT)
            time.sleep(0.01)

    def deliver(self) -> None:
        if self._pending and self._callback is None:
            self._pending = False
            self._handler(signal.SIGINT, None)


def deliver() -> None:
    """A place where Ctrl-C may take effect although it was deferred."""
    current = Deferred._current
    if current is not None and threading.current_thread() is threading.main_thread():
        current.deliver()
