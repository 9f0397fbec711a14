"""Downloads: files that arrive whole and checked, from the first mirror that has them."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..errors import DataError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_CHUNK = 1 << 16
_TIMEOUT = 30.0  # seconds without a byte


def fetch(urls: str | Sequence[str], path: str | os.PathLike[str], md5: str | None = None) -> Path:
    """The file at `path`, downloaded from the first of the urls that has it.

    A file that is there with the right checksum is kept. What has arrived of a download that was
    interrupted stays beside it in `<name>.part`, and the next one goes on from there; the file
    itself appears when all of it is there and its checksum is right. Of several processes that want
    one file, one downloads it, and the others wait. Raises DataError that says what each url
    answered.
    """
    path = Path(path)
    if path.is_file() and (md5 is None or checksum(path) == md5):
        return path
    failures = []
    with _held(path.with_name(f"{path.name}.part")) as part:
        if path.is_file() and (md5 is None or checksum(path) == md5):
            return path
        waiting = [urls] if isinstance(urls, str) else list(urls)
        while waiting:
            url, resumed = waiting.pop(0), part.stat().st_size > 0
            try:
                _receive(url, part)
            except (OSError, HTTPException, ValueError) as error:
                failures.append(f"{url}: {error}")
                continue
            if md5 is not None and (found := checksum(part)) != md5:
                os.truncate(part, 0)
                failures.append(f"{url}: the checksum (MD5) is {found}, expected {md5}")
                if resumed:  # what was there may have been of another file
                    waiting.insert(0, url)
                continue
            os.replace(part, path)
            return path
    raise DataError(
        f"could not download {path.name}; put it into {path.parent}, or try again when there is a "
        "network:\n  " + "\n  ".join(failures)
    )


@contextmanager
def _held(part: Path) -> Iterator[Path]:
    """The file, which nobody else writes to meanwhile; made if it is not there, with its folders,
    and gone with them if nothing came of it."""
    new = [folder for folder in part.parents if not folder.exists()]
    while True:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = open(part, "ab")  # noqa: SIM115  closed below
        if fcntl is None:
            file.close()
            break
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if part.exists() and os.path.samestat(part.stat(), os.fstat(file.fileno())):
            break
        file.close()  # who had it before has given it its name
    try:
        yield part
    finally:
        if fcntl is not None:
            with suppress(OSError):  # a child that was forked in between holds the file, too
                fcntl.flock(file, fcntl.LOCK_UN)
            file.close()
        with suppress(OSError):
            if not part.stat().st_size:
                part.unlink()
        with suppress(OSError):  # not empty
            for folder in new:
                folder.rmdir()


def checksum(path: Path, algorithm: str = "md5") -> str:
    """Of a file. MD5 is against damage, not against malice."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _receive(url: str, part: Path) -> None:
    """Append to `part` what it lacks."""
    begin = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "minigrad"} | ({"Range": f"bytes={begin}-"} if begin else {})
    try:
        answer = urlopen(Request(url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code != 416:  # nothing of the file is left to send
            raise
        return
    with answer:
        begin = begin if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = begin + int(length) if length is not None else None
        progress = _progress(url.rpartition("/")[2], begin, total)
        try:
            with open(part, "ab" if begin else "wb") as file:
                while piece := answer.read(_CHUNK):
                    file.write(piece)
                    progress(len(piece))
        finally:
            progress(0)
    size = part.stat().st_size
    if total is not None and size != total:
        raise OSError(f"the connection ended after {size:,} of {total:,} bytes")


def _progress(name: str, done: int, total: int | None) -> Callable[[int], None]:
    """Counts bytes: by tqdm's bar, if it is installed and the terminal shows it; 0 ends it."""
    if not sys.stderr.isatty() or os.environ.get("MINIGRAD_PROGRESS") == "0":
        return lambda count: None
    try:
        from tqdm import tqdm
    except ImportError:
        print(f"downloading {name}", file=sys.stderr)
        return lambda count: None
    bar = tqdm(desc=name, initial=done, total=total, unit="B", unit_scale=True, unit_divisor=1024)
    return lambda count: bar.update(count) if count else bar.close()


# Archives -------------------------------------------------------------------------------------


def unpack(archive: Path, folder: Path) -> None:
    """Put the files of a .tar(.gz|.bz2|.xz) or .zip into the folder; none may lie outside."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                _extract_zip(file, folder)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"cannot unpack {archive}: {error}") from error


def _extract_zip(file: Any, folder: Path) -> None:
    for entry in file.infolist():
        target = (folder / entry.filename).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise zipfile.BadZipFile(f"{entry.filename} lies outside")
        if not entry.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open(entry) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink)
