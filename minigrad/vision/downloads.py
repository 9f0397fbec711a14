"""torchvision.datasets.utils: files from the net, checked, and their archives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..data.download import checksum, fetch, unpack

__all__ = [
    "calculate_md5", "check_integrity", "check_md5", "download_and_extract_archive",
    "download_url", "extract_archive", "list_dir", "list_files",
]  # fmt: skip

StrPath = str | os.PathLike[str]


def calculate_md5(fpath: StrPath, chunk_size: int = 1024 * 1024) -> str:
    """The MD5 of a file."""
    return checksum(Path(fpath))


def check_md5(fpath: StrPath, md5: str, **kwargs: Any) -> bool:
    """Whether the MD5 of a file is that."""
    return calculate_md5(fpath) == md5


def check_integrity(fpath: StrPath, md5: str | None = None) -> bool:
    """Whether the file is there, and its MD5 is right if one is given."""
    return os.path.isfile(fpath) and (md5 is None or check_md5(fpath, md5))


def download_url(
    url: str,
    root: StrPath,
    filename: StrPath | None = None,
    md5: str | None = None,
    max_redirect_hops: int = 3,
) -> None:
    """The file of the url in the folder root, under its own name or filename. One that is there and
    right is kept. Raises DataError."""
    folder = Path(root).expanduser()
    fetch(url, folder / (filename or os.path.basename(url)), md5)


def extract_archive(
    from_path: StrPath, to_path: StrPath | None = None, remove_finished: bool = False
) -> StrPath:
    """Put the files of a .tar(.gz|.bz2|.xz) or .zip into to_path, by default beside it, and return
    that folder. Raises DataError, also for files that would lie outside of it."""
    target = Path(from_path).parent if to_path is None else to_path
    unpack(Path(from_path), Path(target))
    if remove_finished:
        os.remove(from_path)
    return target


def download_and_extract_archive(
    url: str,
    download_root: StrPath,
    extract_root: StrPath | None = None,
    filename: StrPath | None = None,
    md5: str | None = None,
    remove_finished: bool = False,
) -> None:
    """download_url, then extract_archive into extract_root, by default download_root."""
    folder = Path(download_root).expanduser()
    filename = filename or os.path.basename(url)
    download_url(url, folder, filename, md5)
    extract_archive(folder / filename, extract_root or folder, remove_finished)


def list_dir(root: StrPath, prefix: bool = False) -> list[str]:
    """The folders in a folder; prefix: with its path."""
    return _listed(root, prefix, os.path.isdir)


def list_files(root: StrPath, suffix: str, prefix: bool = False) -> list[str]:
    """The files in a folder whose names end so; prefix: with its path."""
    return [name for name in _listed(root, prefix, os.path.isfile) if name.endswith(suffix)]


def _listed(root: StrPath, prefix: bool, wanted: Any) -> list[str]:
    root = os.path.expanduser(root)
    names = [name for name in sorted(os.listdir(root)) if wanted(os.path.join(root, name))]
    return [os.path.join(root, name) for name in names] if prefix else names
