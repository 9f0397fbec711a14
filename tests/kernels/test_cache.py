"""Kernels on disk: whatever happens to the files, programs run, and what is whole is used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = """
import minigrad as mg
from minigrad.kernels.cpu._jit import compilations
print((mg.ones(10) + mg.arange(10.0)).sum().item(), compilations.count)
"""


def run(root: Path) -> tuple[float, int, str]:
    """The sum, how many kernels were compiled, and what was said."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True,
        env={**os.environ, "MINIGRAD_CACHE_DIR": str(root), "MINIGRAD_PROGRESS": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    total, compiled = done.stdout.split()
    return float(total), int(compiled), done.stderr


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cache")
    total, compiled, said = run(root)
    assert (total, said) == (55, "")
    assert compiled > 2
    assert run(root) == (55, 0, "")
    return root


def kernels(root: Path) -> list[Path]:
    return sorted(root.rglob("*.nbc"))


@pytest.mark.parametrize("damage", ["empty", "cut", "another byte", "rubbish"])
def test_a_damaged_file_is_compiled_again(filled: Path, damage: str) -> None:
    path = kernels(filled)[0]
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes({
        "empty": b"",
        "cut": whole[:middle],
        "another byte": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "rubbish": b"rubbish" * 100,
    }[damage])  # fmt: skip
    total, compiled, said = run(filled)
    assert (total, compiled) == (55, 1)
    assert said.count("\n") == 1
    assert str(path.parent) in said
    assert run(filled) == (55, 0, "")


@pytest.fixture
def read_only(filled: Path) -> Iterator[Path]:
    folders = [filled, *(path for path in filled.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield filled
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="the superuser can write anywhere"
)
def test_a_folder_that_can_only_be_read_is_used(read_only: Path) -> None:
    assert run(read_only) == (55, 0, "")


def test_what_cannot_be_kept_is_said_in_one_line(tmp_path: Path) -> None:
    filled_up = "import minigrad.kernels.cpu._cache as c, os\n" + (
        "def replace(*_): raise OSError(28, 'No space left on device')\nos.replace = replace\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", filled_up + SCRIPT], capture_output=True, text=True,
        env={**os.environ, "MINIGRAD_CACHE_DIR": str(tmp_path), "MINIGRAD_PROGRESS": "0"},
    )  # fmt: skip
    assert done.stdout.split()[0] == "55.0"
    assert done.stderr.count("\n") == 1
    assert "kernels cannot be kept in" in done.stderr
    assert "No space left on device" in done.stderr
    assert not list(tmp_path.rglob("*.tmp"))
