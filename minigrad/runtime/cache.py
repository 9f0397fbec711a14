"""Kernel cache: where compiled kernels are kept between runs.

MINIGRAD_CACHE_DIR names the place; else it is the system's folder for caches. What is not there is
looked for in MINIGRAD_SHARED_CACHE, a folder that is only read: one that came with a container or a
package, made by `python -m minigrad.warmup --unpack`.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path


def cache_root() -> Path:
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
        folder = cache_root() / name
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.R_OK | os.X_OK):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        pass
    # Nowhere to keep kernels: this process compiles what it uses, as every other one will.
    folder = Path(tempfile.mkdtemp(prefix="minigrad-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


# In a folder that was packed: what its kernels were compiled for.
MADE_FOR = "made-for.json"


def shared_folders(name: str, made_for: dict[str, str]) -> list[Path]:
    """The folder called `name` in the shared cache, if there is one: the kernels of another
    processor, Numba or minigrad have another name. One line says that they are not used, and why.
    """
    root = os.environ.get("MINIGRAD_SHARED_CACHE")
    if not root:
        return []
    folder = Path(root) / name
    if folder.is_dir():
        return [folder]
    print(f"minigrad: no kernels are used of MINIGRAD_SHARED_CACHE: {why_not(Path(root), made_for)}",
          file=sys.stderr)  # fmt: skip
    return []


def why_not(root: Path, made_for: dict[str, str]) -> str:
    """What the kernels in a folder are made for instead."""
    found = []
    for path in sorted(root.glob(f"cpu-*/{MADE_FOR}")):
        try:
            found.append(differences(json.loads(path.read_text()), made_for))
        except (OSError, ValueError):
            continue
    return f"{root} has {' and '.join(found) or 'none'}"


def differences(theirs: dict[str, str], ours: dict[str, str]) -> str:
    differing = [f"{what} {theirs.get(what)}, here {ours[what]}"
                 for what in ours if theirs.get(what) != ours[what]]  # fmt: skip
    return f"those for {'; '.join(differing)}"
