"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

StrPath: TypeAlias = str | os.PathLike[str]


def check_readable(path: StrPath) -> None:
    """Raise FileNotFoundError or IsADirectoryError where there is no file."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such file: {path}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder; name a file")


@contextlib.contextmanager
def written_whole(path: StrPath) -> Iterator[Path]:
    """A new file beside `path` to write to, which takes its place when the with block has ended:
    a reader or a crash never meets half a file."""
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target  # a pipe or a device, such as /dev/null, is written to and stays
        return
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no folder {target.parent} to write {target.name} into")
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        # The mode that the process gives to files, whatever the writer would give.
        part.touch(exist_ok=False)
        mode = part.stat().st_mode
        yield part
        os.chmod(part, mode)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself durable, where the system lets folders be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
