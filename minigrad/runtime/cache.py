"""Kernel cache: where compiled kernels are kept between runs.

MINIGRAD_CACHE_DIR names the place; else it is the system's folder for caches.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path


def _cache_root() -> Path:
    if root := os.environ.get("MINIGRAD_CACHE_DIR"):
        return Path(root)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "minigrad"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "minigrad"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigrad"


def cache_folder(name: str) -> Path:
    """The folder called `name` in the cache, which perhaps can only be read; a temporary one where
    it neither is nor can be made."""
    try:
        folder = _cache_root() / name
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.R_OK | os.X_OK):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        pass
    # Nowhere to keep kernels: this process compiles what it uses, as every other one will.
    folder = Path(tempfile.mkdtemp(prefix="minigrad-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
