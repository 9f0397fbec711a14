"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

StrPath: TypeAlias = str | os.PathLike[str]


def check_readable(path: StrPath) -> None:
    """Raise FileNotFoundError or IsADirectoryError where there is no file."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such file: {path}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder; name a file")


@contextlib.contextmanager
def written_whole(path: StrPath) -> Iterator[Path]:
    """A new file to write to, which takes the place of `path` when the with block has ended: a
    reader or a crash never meets half a file. What killed processes left of the same file goes.
    An OSError of the block names `path`."""
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target  # a pipe or a device, such as /dev/null, is written to and stays
        return
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no folder {target.parent} to write {target.name} into")
    try:
        _sweep(target)
        # A folder, as some writers write to another file beside theirs first.
        with _private_folder(target) as folder:
            part = folder / f".{target.name}.tmp"
            # The mode that the process gives to files, whatever the writer would give.
            part.touch(exist_ok=False)
            mode = part.stat().st_mode
            yield part
            os.chmod(part, mode)
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(part, target)
    except OSError as error:
        # A full disk is reported without a name, a folder that is read-only with a passing one.
        name = error.filename
        if error.errno is not None and (name is None or f".{target.name}." in os.fsdecode(name)):
            error.filename = os.fspath(path)
        raise
    _sync_folder(target.parent)


@contextlib.contextmanager
def _private_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, held by a lock as long as it is in use."""
    while True:
        made = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        folder = Path(made)
        lock = _lock(folder, wait=True)
        if folder.is_dir():  # not swept away before it was locked
            break
        _unlock(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def _sweep(target: Path) -> None:
    """Delete private folders that no process holds any more."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}\.tmp")
    for entry in list(os.scandir(target.parent)):
        if name.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(OSError):
                lock = _lock(entry.path)
                if lock is not None:
                    shutil.rmtree(entry.path, ignore_errors=True)
                    _unlock(lock)


@contextlib.contextmanager
def held_alone(folder: StrPath) -> Iterator[None]:
    """Within the block, no other process gets this far with the same folder: BlockingIOError. The
    lock is the system's, which lets go of it when the process ends in whatever way. Without one,
    on Windows and in some network file systems, everybody gets this far."""
    try:
        lock = _lock(folder)
    except BlockingIOError:
        raise BlockingIOError(
            f"{folder} is in use by another process: wait until it ends, or name another folder"
        ) from None
    try:
        yield
    finally:
        _unlock(lock)


def _lock(folder: StrPath, wait: bool = False) -> int | None:
    """A descriptor that holds the folder, or None where there are no locks. BlockingIOError:
    another process holds it."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        # Closing it would not do: a child that was forked in between holds it as well.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself durable, where the system lets folders be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
