"""Kernels on disk: one file for each compiled form of each function. It never stops a program.

Numba's own cache has an index beside its files; a damaged one stops every process that reads it,
and two processes that add to it at the same time lose one of the entries. Here a file's name is a
digest of what it was compiled from and for, wherever minigrad lies, and it begins with a digest of
its content. A file that is damaged counts as missing; where nothing can be written, what is there
is read all the same.

Two processes that need the same kernel do not compile it twice: whoever begins locks a file beside
the kernel's, others wait for it, though not for ever. The system frees the lock of a process that
has ended.

The files are pickles: whoever can write to a folder can run code in the processes that read it.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.serialize import dumps

from ...runtime.interrupts import deliver

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_DIGEST = hashlib.sha256().digest_size
_PATIENCE = 60.0  # seconds for which a process waits for another one's kernel
_told: set[str] = set()

# Held while a file is written: a process that ends in between would leave a part of it.
writing = threading.Lock()


def _tell(folder: Path, what: str, error: BaseException | str) -> None:
    """One line a process for each kind of trouble."""
    if what not in _told:
        _told.add(what)
        print(f"minigrad: {what} in {folder}: {error}", file=sys.stderr)


def _locked(file: int) -> bool:
    """Whether the lock is ours now; or there are no locks, on Windows or in this file system."""
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _unlock(file: int) -> None:
    # Closing it would not do: a child that was forked in between holds the file as well.
    with suppress(OSError):
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


class _Files:
    """The forms of one function: in the first folder, and to read only in the others."""

    def __init__(self, folders: Sequence[Path], stem: str, stamp: object) -> None:
        self._folders, self._stem, self._stamp = folders, stem, stamp
        self._claim: tuple[Path, int] | None = None  # what this process is compiling

    def _name(self, key: object) -> str:
        made_from = repr((numba.__version__, self._stamp, key)).encode()
        return f"{self._stem}.{hashlib.sha256(made_from).hexdigest()[:24]}.nbc"

    def load(self, key: object) -> Any:
        name = self._name(key)
        for folder in self._folders:
            if (found := self._read(folder / name)) is not None:
                return found
        self._take(self._folders[0] / name)
        return self._read(self._folders[0] / name)  # which may be there by now

    def _take(self, path: Path) -> None:
        """Wait until no other process is compiling this kernel."""
        lock_path = path.with_suffix(".lock")
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:  # nothing can be written there
            return
        self._claim = lock_path, lock
        until = time.monotonic() + _PATIENCE
        while not _locked(lock) and time.monotonic() < until:
            time.sleep(0.02)
            deliver()

    def release(self) -> None:
        """Let others compile it."""
        claim, self._claim = self._claim, None
        if claim is not None:
            path, lock = claim
            with suppress(OSError):
                path.unlink()
            _unlock(lock)

    def _read(self, path: Path) -> Any:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return _tell(path.parent, "kernels cannot be read", error)
        digest, data = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(data).digest() != digest:
            return _tell(path.parent, "damaged kernels are compiled again", path.name)
        return pickle.loads(data)

    def save(self, key: object, data: object) -> None:
        path, content = self._folders[0] / self._name(key), dumps(data)
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")
        try:
            with writing:
                part.write_bytes(hashlib.sha256(content).digest() + content)
                os.replace(part, path)
        except OSError as error:
            _tell(path.parent, "kernels cannot be kept", error)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


@cache
def _content(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


class _Locator(_CacheLocator):
    """Numba asks where a function's files lie; `_Files` knows."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        locator = cls()
        locator._line = py_func.__code__.co_firstlineno
        return locator

    def get_disambiguator(self) -> str:
        return str(self._line)

    def get_source_stamp(self) -> str:
        return ""

    def get_cache_path(self) -> str:
        return ""

    def ensure_cache_path(self) -> None:
        pass


class _Impl(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class KernelCache(FunctionCache):
    """The cache of one function: where kernels are kept, and where else they may be found."""

    _impl_class = _Impl

    def __init__(self, py_func: Any, folders: Sequence[Path]) -> None:
        super().__init__(py_func)
        stamp = _content(inspect.getfile(py_func))
        self._cache_file = _Files(folders, self._impl.filename_base, stamp)

    def release(self) -> None:
        """To be called when a compilation has ended, one way or the other."""
        self._cache_file.release()
