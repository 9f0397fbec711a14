"""torch.hub's names for files: weights are downloaded once, into torch's folder for them.

Repositories of code (`hub.load`) are not run: their code is written for torch.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from .data.download import checksum, fetch
from .errors import DataError
from .pth import load as _load

__all__ = ["download_url_to_file", "get_dir", "load_state_dict_from_url", "set_dir"]

# The end of a file's name that is the beginning of its SHA-256: resnet18-f37072fd.pth.
HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")
_folder: Path | None = None


def __getattr__(name: str) -> Any:
    """tqdm, for `from torch.hub import tqdm`, where it is installed."""
    if name == "tqdm":
        with suppress(ImportError):
            return import_module("tqdm.auto").tqdm
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def get_dir() -> str:
    """The folder of downloads: set_dir's, else $TORCH_HOME/hub, else ~/.cache/torch/hub."""
    if _folder is not None:
        return str(_folder)
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return os.path.join(os.path.expanduser(home), "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    """Downloads go to this folder from now on."""
    global _folder
    _folder = Path(d).expanduser()


def download_url_to_file(
    url: str, dst: str | os.PathLike[str], hash_prefix: str | None = None, progress: bool = True
) -> None:
    """A file from the net at `dst`, whole or not at all. hash_prefix: the beginning of its SHA-256.

    Raises DataError.
    """
    path = fetch(url, dst)
    if hash_prefix and not (found := checksum(path, "sha256")).startswith(hash_prefix):
        path.unlink()
        raise DataError(
            f"download_url_to_file: the SHA-256 of {url} is {found}, expected {hash_prefix}…"
        )


def load_state_dict_from_url(
    url: str,
    model_dir: str | os.PathLike[str] | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = True,
) -> Any:
    """What lies in the file of the url, which is downloaded to model_dir, by default
    get_dir()/checkpoints, unless it is there.

    check_hash: the name ends in the beginning of its SHA-256, which must be right. Nothing in the
    file is run. Raises DataError, and what `load` raises.
    """
    folder = Path(model_dir) if model_dir is not None else Path(get_dir()) / "checkpoints"
    name = file_name or os.path.basename(urlparse(url).path)
    path = folder / name
    if not path.is_file():
        prefix = HASH_REGEX.search(name) if check_hash else None
        download_url_to_file(url, path, prefix.group(1) if prefix else None, progress)
    return _load(path, map_location=map_location)
