"""Kernels on disk: one file for each compiled form of each function. It never stops a program.

Numba's own cache has an index beside its files; a damaged one stops every process that reads it,
and two processes that add to it at the same time lose one of the entries. Here a file's name is a
digest of what it was compiled from and for, and it begins with a digest of its content. A file that
is damaged counts as missing; where nothing can be written, what is there is read all the same.

The files are pickles: whoever can write to the folder can run code in the processes that read it.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserProvidedCacheLocator
from numba.core.serialize import dumps

_DIGEST = hashlib.sha256().digest_size
_told: set[str] = set()


def _tell(folder: Path, what: str, error: BaseException | str) -> None:
    """One line a process for each kind of trouble."""
    if what not in _told:
        _told.add(what)
        print(f"minigrad: {what} in {folder}: {error}", file=sys.stderr)


class _Files:
    """The forms of one function."""

    def __init__(self, folder: Path, stem: str, stamp: object) -> None:
        self._folder, self._stem, self._stamp = folder, stem, stamp

    def path(self, key: object) -> Path:
        made_from = repr((numba.__version__, self._stamp, key)).encode()
        return self._folder / f"{self._stem}.{hashlib.sha256(made_from).hexdigest()[:24]}.nbc"

    def load(self, key: object) -> Any:
        path = self.path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return _tell(self._folder, "kernels cannot be read", error)
        digest, data = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(data).digest() != digest:
            return _tell(self._folder, "damaged kernels are compiled again", path.name)
        return pickle.loads(data)

    def save(self, key: object, data: object) -> None:
        path, content = self.path(key), dumps(data)
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")
        try:
            part.write_bytes(hashlib.sha256(content).digest() + content)
            os.replace(part, path)
        except OSError as error:
            _tell(self._folder, "kernels cannot be kept", error)
            with suppress(OSError):
                part.unlink(missing_ok=True)


class _Locator(UserProvidedCacheLocator):
    """numba.config.CACHE_DIR, whether it can be written or not."""

    def ensure_cache_path(self) -> None:
        with suppress(OSError):
            os.makedirs(self.get_cache_path(), exist_ok=True)


class _Impl(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class KernelCache(FunctionCache):
    """The cache of one function; to be made while numba.config.CACHE_DIR names the place."""

    _impl_class = _Impl

    def __init__(self, py_func: Any) -> None:
        super().__init__(py_func)
        locator = self._impl.locator
        folder = Path(locator.get_cache_path())
        self._cache_file = _Files(folder, self._impl.filename_base, locator.get_source_stamp())
