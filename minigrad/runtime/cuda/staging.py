"""Staging: copies of host memory to the device, from pinned memory that lasts until they are done.

The device copies by itself, after the call, and only from pinned memory. Other memory is copied to
a ring of pinned buffers first, so that its owner may change it at once. A buffer is written again
when the event that was recorded behind its last copy is reached. Many small copies (numbers that a
kernel reads) share a buffer, a large one takes several.
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any

import numpy as np

from .driver import Driver

_BUFFERS = 4
_BUFFER_BYTES = 2**21
_ALIGNMENT = 16  # bytes


class Uploads:
    """Copies from the host that a device has still to make. All calls queue in the device's turn,
    so that an event recorded later marks all copies before it."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._ring: deque[tuple[int, Any]] = deque()  # (buffer, event behind its last copy)
        self._buffer = self._used = 0  # the buffer that is being filled; 0 is none
        self._events: list[Any] = []  # for use again
        self._in_flight: deque[tuple[Any, np.ndarray]] = deque()

    def staged(self, to: int, array: np.ndarray) -> None:
        """Copy a C-ordered array, which may change when this returns, to the address."""
        source, left = array.ctypes.data, array.nbytes
        with self._driver.turn:
            assert not self._driver.capturing
            while left:
                if not self._buffer or (self._used and left > _BUFFER_BYTES - self._used):
                    self._turn_ring()
                nbytes = min(left, _BUFFER_BYTES - self._used)
                staging = self._buffer + self._used
                ctypes.memmove(staging, source, nbytes)
                self._driver.upload(to, staging, nbytes)
                self._used += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
                source, to, left = source + nbytes, to + nbytes, left - nbytes

    def _turn_ring(self) -> None:
        """Go on with the next buffer, once the device has read it."""
        ring, driver = self._ring, self._driver
        if self._buffer:
            ring.append((self._buffer, self._mark()))
            self._buffer = 0
        if ring and (len(ring) == _BUFFERS or driver.is_reached(ring[0][1])):
            driver.wait_for_event(ring[0][1])
            self._buffer, event = ring.popleft()
            self._events.append(event)
        else:
            self._buffer = driver.allocate_pinned(_BUFFER_BYTES)
        self._used = 0

    def from_pinned(self, to: int, array: np.ndarray) -> None:
        """Copy a C-ordered array of pinned memory, which is kept until the copy is done."""
        with self._driver.turn:
            self._release_finished()
            self._driver.upload(to, array.ctypes.data, array.nbytes)
            self._in_flight.append((self._mark(), array))

    def release_finished(self) -> None:
        """Let go of pinned arrays that the device has read."""
        if self._in_flight and self._driver.turn.enter_if_free():
            try:
                self._release_finished()
            finally:
                self._driver.turn.leave()

    def _release_finished(self) -> None:
        while self._in_flight and self._driver.is_reached(self._in_flight[0][0]):
            event, _ = self._in_flight.popleft()
            self._events.append(event)

    def _mark(self) -> Any:
        event = self._events.pop() if self._events else self._driver.new_event(timed=False)
        self._driver.record_event(event)
        return event
