"""ELF: a shared library without code, whose symbols are addresses of the process that loads it.

A library that is loaded is found again by its soname: `dlopen("libcuda.so.1")` returns it, wherever
its file lies. Its symbols are absolute (SHN_ABS), which glibc since 2.28 does not relocate, so
`dlsym` returns exactly the addresses that were written, ctypes callbacks for instance. Nothing of
it depends on the processor but one number in the header.

Source: System V ABI, chapters 4 and 5 (object files, dynamic linking); elf.h.
"""

from __future__ import annotations

import platform
import struct

_MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine
_HEADER, _PROGRAM_HEADER, _SYMBOL = 64, 56, 24  # bytes

_PT_LOAD, _PT_DYNAMIC, _PT_GNU_STACK = 1, 2, 0x6474E551
_READ_WRITE = 6
_DT_NULL, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = (
    0, 4, 5, 6, 10, 11, 14,
)  # fmt: skip
_SHN_ABS = 0xFFF1
_GLOBAL_FUNCTION = 1 << 4 | 2


def shared_library(soname: str, symbols: dict[str, int]) -> bytes:
    """The file's content. symbols: name → address. OSError for a processor it does not know."""
    if (machine := _MACHINES.get(platform.machine())) is None:
        raise OSError(
            f"a shared library is written for {', '.join(_MACHINES)}, "
            f"this processor is {platform.machine()}"
        )
    strings = b"\0"
    places = {}
    for name in (soname, *symbols):
        places[name] = len(strings)
        strings += name.encode() + b"\0"
    table = bytes(_SYMBOL)
    for name, address in symbols.items():
        table += struct.pack("<IBBHQQ", places[name], _GLOBAL_FUNCTION, 0, _SHN_ABS, address, 0)
    # One bucket: a chain through all symbols, which the loader compares by name.
    n = len(symbols)
    chain = [0, *range(2, n + 1), 0]
    hashes = struct.pack(f"<{4 + n}I", 1, n + 1, 1, *chain)

    # The whole file is one segment that is loaded as it lies.
    at_table = _HEADER + 3 * _PROGRAM_HEADER
    at_hashes = at_table + len(table)
    at_strings = at_hashes + len(hashes)
    at_dynamic = (at_strings + len(strings) + 7) // 8 * 8
    entries = [
        (_DT_SONAME, places[soname]), (_DT_HASH, at_hashes), (_DT_SYMTAB, at_table),
        (_DT_SYMENT, _SYMBOL), (_DT_STRTAB, at_strings), (_DT_STRSZ, len(strings)), (_DT_NULL, 0),
    ]  # fmt: skip
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    size = at_dynamic + len(dynamic)
    header = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, _HEADER, 0, 0, _HEADER, _PROGRAM_HEADER, 3, 64, 0, 0
    )  # fmt: skip
    segments = (
        _segment(_PT_LOAD, 0, size, 4096 * 16)
        + _segment(_PT_DYNAMIC, at_dynamic, len(dynamic), 8)
        + _segment(_PT_GNU_STACK, 0, 0, 16)  # without it, the loader makes all stacks executable
    )
    parts = header + segments + table + hashes + strings
    return parts.ljust(at_dynamic, b"\0") + dynamic


def _segment(kind: int, start: int, size: int, alignment: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, _READ_WRITE, start, start, start, size, size, alignment)
