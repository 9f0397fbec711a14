"""Kernel cache: where compiled kernels are kept between runs.

MINIGRAD_CACHE_DIR names the place; else it is the system's folder for caches. What is not there is
looked for in MINIGRAD_SHARED_CACHE, a folder that is only read: one that came with a container or a
package, made by `python -m minigrad.warmup --unpack`.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import sys
import tempfile
import uuid
import zipfile
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


# Kernels in a file or in a folder that is shared -------------------------------------------------

# Beside packed kernels: what they were compiled for. That names their folder, too.
MADE_FOR = "made-for.json"


def shared_folders(name: str, made_for: dict[str, str]) -> list[Path]:
    """The folder called `name` in the shared cache. If it is not there, as all kernels were made
    for another processor, Numba or minigrad, one line says so."""
    root = os.environ.get("MINIGRAD_SHARED_CACHE")
    if not root:
        return []
    folder = Path(root) / name
    if folder.is_dir():
        return [folder]
    there = [path.read_bytes() for path in Path(root).glob(f"cpu-*/{MADE_FOR}")]
    reason = _differences(there, made_for)
    print(f"minigrad: MINIGRAD_SHARED_CACHE={root} is not used: {reason}", file=sys.stderr)
    return []


def _differences(found: list[bytes], made_for: dict[str, str]) -> str:
    """Why none of the kernels that were found can be used."""
    reasons = []
    for content in found:
        theirs = json.loads(content)
        reasons += [
            f"kernels for {what} {theirs.get(what)}, here it is {ours}"
            for what, ours in made_for.items() if theirs.get(what) != ours
        ]  # fmt: skip
    return "; ".join(dict.fromkeys(reasons)) or "there are no kernels"


def pack(folder: Path, made_for: dict[str, str], file: Path) -> int:
    """Write the kernels of a folder to a zip file; returns how many."""
    kernels = sorted(folder.glob("*.nbc"))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder.name}/{MADE_FOR}", json.dumps(made_for, indent=1))
        for path in kernels:
            archive.write(path, f"{folder.name}/{path.name}")
    return len(kernels)


def unpack(file: Path, made_for: dict[str, str], folder: Path) -> int:
    """Put the kernels of a packed file into a folder; returns how many.

    Raises ValueError if they are not for this machine and minigrad.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            kernels = [
                name for name in archive.namelist()
                if re.fullmatch(rf"{folder.name}/[^/\\]+\.nbc", name)
            ]  # fmt: skip
            if not kernels:
                found = [archive.read(name) for name in archive.namelist() if MADE_FOR in name]
                raise ValueError(f"{file} is not used: {_differences(found, made_for)}")
            for name in [*kernels, f"{folder.name}/{MADE_FOR}"]:
                path = folder / name.partition("/")[2]
                part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")
                part.write_bytes(archive.read(name))
                os.replace(part, path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{file} is not a file of packed kernels: {error}") from None
    return len(kernels)
