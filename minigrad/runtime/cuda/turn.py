"""Mutual exclusion: whose turn it is to queue work.

While a stream is captured, the GPU records whatever reaches it, from whichever thread. So work is
queued under a lock, which a recording holds from its first call to its last: other threads wait.
"""

from __future__ import annotations

import threading

from ...errors import GraphError

_PATIENCE = 60.0  # seconds; a recording takes a few at most


class Turn:
    """`with turn:` around every call that queues work or waits for it; may be nested."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._recorder: int | None = None

    @property
    def recording(self) -> bool:
        """Whether this thread records."""
        return self._recorder == threading.get_ident()

    def __enter__(self) -> None:
        if self._lock.acquire(blocking=False):  # faster than with a timeout
            return
        while not self._lock.acquire(timeout=_PATIENCE):
            if self._recorder is not None:
                raise GraphError(
                    "capture: the GPU is busy with the recording of another thread's step; a "
                    "captured step must not wait for another thread that works on the GPU"
                )

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        self._lock.release()

    def enter_unless_recorded(self) -> bool:
        """For finalizers, which must not wait for a recording: whether the turn was given, until
        `leave`."""
        while self._recorder is None:
            if self._lock.acquire(timeout=0.01):
                if self._recorder is None:
                    return True
                self._lock.release()
        return False

    def enter_if_free(self) -> bool:
        """Without waiting: whether the turn was given, until `leave`. Not while a step is recorded,
        be it by this thread."""
        if not self._lock.acquire(blocking=False):
            return False
        if self._recorder is not None:
            self._lock.release()
        return self._recorder is None

    def start_recording(self) -> None:
        self.__enter__()
        self._recorder = threading.get_ident()

    def stop_recording(self) -> None:
        self._recorder = None
        self._lock.release()
