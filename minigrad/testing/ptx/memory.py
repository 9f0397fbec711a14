"""Memory of an emulated device: addresses that the host cannot read, with a shadow that it can.

The device's addresses are a reserved range without access rights, so host code that follows one by
mistake ends with a segmentation fault, as it would beside a GPU. The numbers lie in an arena of the
same size at another place. For every 512 bytes of the arena `ends` says where the live allocation
there ends, which finds accesses outside; `written` and `read_by` keep, for every granule of
memory, which block of which launch touched it last, which finds races between blocks. What a page
held before a launch first wrote to it is kept, so that a launch can be undone.
"""

from __future__ import annotations

import bisect
import ctypes
import mmap

import numpy as np

PAGE = 512  # bytes: the alignment of allocations, and what one entry of `ends` stands for
_ARENA = 2 << 30  # bytes of a device
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE


class Fault(Exception):  # noqa: N818  a kernel's fault, not ours
    """A kernel or a copy did what it must not; the text names kernel, line, block and thread."""


def _map(nbytes: int, access: int) -> np.ndarray:
    """Pages that take memory only once they are touched, as bytes."""
    return np.frombuffer(mmap.mmap(-1, nbytes, flags=_FLAGS, prot=access), np.uint8)


class DeviceMemory:
    """Allocations by first fit. Addresses are ints.

    base: the device's first address. host: where the arena lies for the interpreter.
    """

    total_bytes = _ARENA

    def __init__(self, device: int = 0) -> None:
        self.device = device
        access = mmap.PROT_READ | mmap.PROT_WRITE
        self._reserved = _map(_ARENA, 0)
        self._arena = _map(_ARENA, access)
        self.base, self.host = self._reserved.ctypes.data, self._arena.ctypes.data
        self.ends = _map(_ARENA // PAGE * 8, access).view(np.int64)
        self.written = _map(_ARENA * 8, access).view(np.int64)
        self.read_by = _map(_ARENA * 8, access).view(np.int64)
        self.page_stamps = _map(_ARENA // PAGE * 8, access).view(np.int64)
        self.pages = _map(_ARENA // PAGE * 8, access).view(np.int64)
        self.old_pages = _map(_ARENA, access).reshape(-1, PAGE)
        self.stamp = 1  # of the next launch's first block
        self._sizes: dict[int, int] = {}  # by offset
        self._free: list[tuple[int, int]] = [(0, _ARENA)]  # offset and size, by offset

    @property
    def free_bytes(self) -> int:
        return sum(size for _, size in self._free)

    def allocate(self, nbytes: int) -> int:
        """The address of `nbytes` fresh bytes. MemoryError if there are not as many together."""
        pages = max(1, -(-nbytes // PAGE)) * PAGE
        for i, (offset, size) in enumerate(self._free):
            if size >= pages:
                rest = [(offset + pages, size - pages)] if size > pages else []
                self._free[i : i + 1] = rest
                self._sizes[offset] = nbytes
                self.ends[offset // PAGE : (offset + pages) // PAGE] = offset + nbytes
                # What an earlier owner left there must not look like a result.
                self._arena[offset : offset + pages] = 0xFF  # NaN
                return self.base + offset
        raise MemoryError(f"the emulated device has no {nbytes} bytes left")

    def free(self, address: int) -> None:
        offset = address - self.base
        if offset not in self._sizes:
            raise ValueError(f"{address:#x} is not the start of a live allocation")
        pages = max(1, -(-self._sizes.pop(offset) // PAGE)) * PAGE
        self.ends[offset // PAGE : (offset + pages) // PAGE] = 0
        i = bisect.bisect(self._free, (offset, 0))
        start, end = offset, offset + pages
        if i < len(self._free) and self._free[i][0] == end:
            end += self._free.pop(i)[1]
        if i > 0 and sum(self._free[i - 1]) == start:
            i -= 1
            start = self._free.pop(i)[0]
        self._free.insert(i, (start, end - start))

    def written_pages(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The `count` pages that the last launch wrote to, and what they hold."""
        numbers = np.sort(self.pages[:count])
        return numbers, self._arena.reshape(-1, PAGE)[numbers]

    def undo(self, count: int) -> None:
        """Put back what these pages held before the launch."""
        self._arena.reshape(-1, PAGE)[self.pages[:count]] = self.old_pages[:count]

    def owns(self, address: int) -> bool:
        """Whether it is an address of this device."""
        return 0 <= address - self.base < _ARENA

    def locate(self, address: int, nbytes: int, what: str) -> int:
        """Where these bytes lie on the host."""
        offset = address - self.base
        if not self.owns(address) or offset + nbytes > self.ends[offset // PAGE]:
            raise Fault(
                f"{what} of {nbytes} bytes at {address:#x} of device {self.device} reaches outside "
                "a live allocation"
            )
        return self.host + offset

    def write(self, address: int, source: int, nbytes: int) -> None:
        """Copy from the host."""
        ctypes.memmove(self.locate(address, nbytes, "a copy"), source, nbytes)

    def read(self, destination: int, address: int, nbytes: int) -> None:
        """Copy to the host."""
        ctypes.memmove(destination, self.locate(address, nbytes, "a copy"), nbytes)

    def fill(self, address: int, byte: int, nbytes: int) -> None:
        ctypes.memset(self.locate(address, nbytes, "a fill"), byte, nbytes)
