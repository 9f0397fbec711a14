"""A call between ranks that is under way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from .group import ProcessGroup
from .mpi import Request, wait

# Calls that nobody waits for any more: their arrays must live until they are done.
_pending: set[Work] = set()


class Work:
    """Returned by calls with async_op=True. The tensors belong to it until `wait()` has returned.

    finish() puts the result where it belongs.
    """

    def __init__(
        self, group: ProcessGroup, what: str, request: Request, finish: Callable[[], Any]
    ) -> None:
        self._group, self._what = group, what
        self._request, self._finish = request, finish
        self._done = False
        _pending.add(self)

    def is_completed(self) -> bool:
        if not self._done and self._request.Test():
            self._complete()
        return self._done

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Until the result is there. DistributedError if ranks are missing until the timeout."""
        if not self._done:
            wait(self._request, self._what, timeout or self._group.timeout, self._group.spin)
            self._complete()
        return True

    def _complete(self) -> None:
        _pending.discard(self)
        self._done = True
        self._finish()
