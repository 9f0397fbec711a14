"""Worker threads: they take tasks off a kernel's caller.

`_launch`, which kernels call through the block of words in runtime/threads.py, deals the tasks out:
each thread gets its own part of them, in chunks, always the same part, whose data its cache may
still hold. A thread that is through with its own takes chunks from the far end of the others'.
The caller is thread 0 and takes chunks as any other; in the end it waits only for chunks that
somebody has begun. So a worker that the system keeps from running delays nothing.

A thread's ticket is one word: the number of the launch, and the first and the last chunk that
nobody has taken. Taking one is a compare-and-swap, which fails when the launch is over. What a
launch says besides (body, arguments, sizes) is read before that, and so still held when it
succeeds.

Workers are started by the first launch that wants them, and again in a forked child. They wait
for the next launch awake for half a millisecond, which is what Python needs between most of them,
then sleep. Who spins must take no core that others could use: after 50 µs, if that would have been
too short the last time, or if another thread had the worker's core in the last tenth of a second.
One launch at a time has them: another thread's kernels run on that thread alone meanwhile. On
systems without POSIX threads there are no workers.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
import time
from functools import wraps
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...runtime.interrupts import Deferred
from ...runtime.threads import (
    ACTIVE,
    ADDRESS,
    ARGUMENTS,
    BLOCK,
    BODY,
    BUSY,
    CHUNK,
    CONDITION,
    DONE,
    GENERATION,
    LAUNCH,
    LINE,
    MUTEX,
    SLEEPING,
    START,
    STARTED,
    TASKS,
    THREADS,
    TICKETS,
)  # fmt: skip
from ._jit import callback, helper, serial_kernel

_CHUNKS = 64  # of a launch: fixed, so that results depend on the shape alone
_AWAKE, _AWAKE_IN_VAIN = 500_000, 50_000  # ns before a worker goes to sleep
_INTERRUPTED = 1_000_000  # ns between two looks at the clock, when another thread had the core
_CROWDED = 100_000_000  # ns that this is remembered
_PATIENCE = 1000  # spins before a waiting caller lets others run on its core

_word = ir.IntType(64)


def _on_words(emit):
    """An intrinsic on words: emit(builder, *values) makes the code."""

    @wraps(emit)
    def typed(typing_context, *arguments):
        def codegen(context, builder, signature, values):
            return emit(builder, *values)

        return types.int64(*[types.int64] * len(arguments)), codegen

    return intrinsic(typed)


def _place(builder, block, index):
    return builder.gep(builder.inttoptr(block, _word.as_pointer()), [index])


@_on_words
def _load(builder, block, index):
    return builder.load_atomic(_place(builder, block, index), "seq_cst", 8)


@_on_words
def _store(builder, block, index, value):
    builder.store_atomic(value, _place(builder, block, index), "seq_cst", 8)
    return value


@_on_words
def _add(builder, block, index, value):
    return builder.atomic_rmw("add", _place(builder, block, index), value, "seq_cst")


@_on_words
def _exchanged(builder, block, index, old, new):
    """1 if the word was `old`, and is `new` now."""
    pair = builder.cmpxchg(_place(builder, block, index), old, new, "seq_cst", "seq_cst")
    return builder.zext(builder.extract_value(pair, 1), _word)


@_on_words
def _call(builder, body, begin, end, thread, arguments):
    kind = ir.FunctionType(ir.VoidType(), [_word, _word, _word, ir.IntType(8).as_pointer()])
    place = builder.inttoptr(arguments, ir.IntType(8).as_pointer())
    builder.call(builder.inttoptr(body, kind.as_pointer()), [begin, end, thread, place])
    return begin


@_on_words
def _start(builder, callback):
    kind = ir.FunctionType(_word, [_word] * 4)
    return builder.call(builder.inttoptr(callback, kind.as_pointer()), [ir.Constant(_word, 0)] * 4)


@_on_words
def _pause(builder, word):
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        kind, name, given = ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause", []
    elif machine in ("aarch64", "arm64"):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
        name, given = "llvm.aarch64.hint", [ir.Constant(ir.IntType(32), 1)]
    else:
        return word
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(function, given)
    return word


def _posix(name, arguments):
    return types.ExternalFunction(name, types.int32(*[types.intp] * arguments))


_mutex_lock, _mutex_unlock = _posix("pthread_mutex_lock", 1), _posix("pthread_mutex_unlock", 1)
_condition_wait = _posix("pthread_cond_wait", 2)
_condition_broadcast = _posix("pthread_cond_broadcast", 1)
_yield = _posix("sched_yield", 0)
_clock_gettime = _posix("clock_gettime", 2)
_CLOCK = getattr(time, "CLOCK_MONOTONIC", 0)


@helper
def _take_chunks(block, thread, generation):
    """Run chunks of the launch until none is left: one's own, then those of others."""
    active = _load(block, ACTIVE)
    for turn in range(active):
        owner = (thread + turn) % active
        place = TICKETS + LINE * owner
        while True:
            ticket = _load(block, place)
            first, last = ticket >> 16 & 0xFFFF, ticket & 0xFFFF
            if ticket >> 32 != generation or first >= last:
                break
            chunk, taken = (first, 1 << 16) if turn == 0 else (last - 1, -1)
            body, arguments = _load(block, BODY), _load(block, ARGUMENTS)
            tasks, size = _load(block, TASKS), _load(block, CHUNK)
            if _exchanged(block, place, ticket, ticket + taken):
                begin = chunk * size
                _call(body, begin, min(begin + size, tasks), thread, arguments)
                _add(block, DONE, 1)


def _launch(block, body, arguments, tasks):
    """Run all tasks, and return 1; or 0 if another launch is under way, or workers are missing."""
    active = _load(block, THREADS)
    if _load(block, STARTED) < active - 1:
        return _start(_load(block, START))
    if not _exchanged(block, BUSY, 0, 1):
        return 0
    size = -(-tasks // _CHUNKS)
    if size > 64:
        size = (size + 63) // 64 * 64  # whole cache lines, and whole vectors
    chunks = -(-tasks // size)
    generation = _load(block, GENERATION) % 0x3FFFFFFF + 1
    _store(block, BODY, body)
    _store(block, ARGUMENTS, arguments)
    _store(block, TASKS, tasks)
    _store(block, CHUNK, size)
    _store(block, ACTIVE, active)
    _store(block, DONE, 0)
    for owner in range(active):
        first, last = owner * chunks // active, (owner + 1) * chunks // active
        _store(block, TICKETS + LINE * owner, generation << 32 | first << 16 | last)
    _store(block, GENERATION, generation)
    if _load(block, SLEEPING):
        _mutex_lock(block + 8 * MUTEX)
        _condition_broadcast(block + 8 * CONDITION)
        _mutex_unlock(block + 8 * MUTEX)
    _take_chunks(block, 0, generation)
    spins = 0
    while _load(block, DONE) < chunks:
        _pause(0)
        spins += 1
        if spins > _PATIENCE:
            _yield()
    _store(block, BUSY, 0)
    return 1


@helper
def _nanoseconds(timespec):
    _clock_gettime(_CLOCK, timespec.ctypes.data)
    return timespec[0] * 1_000_000_000 + timespec[1]


@helper
def _stay_awake(block, seen, timespec, patience):
    """For so many ns, or until a launch begins; whether another thread had the core meanwhile."""
    now = _nanoseconds(timespec)
    end = now + patience
    while now < end and _load(block, GENERATION) == seen:
        spins = 0
        while spins < 64 and _load(block, GENERATION) == seen:
            _pause(0)
            spins += 1
        before, now = now, _nanoseconds(timespec)
        if now - before > _INTERRUPTED:
            return True
    return False


def _work(block, thread):
    """What a worker does, for ever."""
    seen = _load(block, GENERATION)
    timespec = np.empty(2, np.int64)
    crowded_until = waited = 0
    while True:
        began = _nanoseconds(timespec)
        in_vain = waited > _AWAKE or began < crowded_until
        if _stay_awake(block, seen, timespec, _AWAKE_IN_VAIN if in_vain else _AWAKE):
            crowded_until = _nanoseconds(timespec) + _CROWDED
        if _load(block, GENERATION) == seen:
            _mutex_lock(block + 8 * MUTEX)
            _add(block, SLEEPING, 1)
            while _load(block, GENERATION) == seen:
                _condition_wait(block + 8 * CONDITION, block + 8 * MUTEX)
            _add(block, SLEEPING, -1)
            _mutex_unlock(block + 8 * MUTEX)
        waited = _nanoseconds(timespec) - began
        seen = _load(block, GENERATION)
        if thread < _load(block, ACTIVE):
            _take_chunks(block, thread, seen)


class _Workers:
    """Starts them, when a launch wants more of them than there are."""

    def __init__(self) -> None:
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)
        self._callback = kind(self._start)
        self._compiled: Any = None  # _launch and _work
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """There are none (any more): a fork leaves the child its caller's thread alone."""
        self._lock = threading.Lock()
        BLOCK[BUSY:TICKETS] = 0
        libc = ctypes.CDLL(None)
        for name, word in (("mutex", MUTEX), ("cond", CONDITION)):
            getattr(libc, f"pthread_{name}_init")(ctypes.c_void_p(ADDRESS + 8 * word), None)
        BLOCK[[LAUNCH, START]] = ctypes.cast(self._callback, ctypes.c_void_p).value

    def _start(self, *launch: int) -> int:
        """Called by kernels; 0 says that the caller does this work alone."""
        # This is a callback from C, through which no KeyboardInterrupt gets to Python.
        with self._lock, Deferred(callback=True):
            try:
                if self._compiled is None:
                    compiled = callback(types.int64(*[types.int64] * 4))(_launch)
                    self._compiled = compiled, serial_kernel(_work)
                while BLOCK[STARTED] < BLOCK[THREADS] - 1:
                    self._start_one(int(BLOCK[STARTED]) + 1)
                BLOCK[LAUNCH] = self._compiled[0].address
            except RuntimeError:  # the system has no more threads, or Python is about to end
                BLOCK[THREADS] = BLOCK[STARTED] + 1
            except BaseException:
                BLOCK[THREADS] = 1  # or the next kernel would come here again
                raise
        return 0

    def _start_one(self, thread: int) -> None:
        name = f"minigrad-{thread}"
        work = self._compiled[1]
        threading.Thread(target=work, args=(ADDRESS, thread), name=name, daemon=True).start()
        BLOCK[STARTED] = thread


if os.name == "posix":
    workers = _Workers()
