"""Packed kernels are used where they are for; elsewhere one line says why they are not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import minigrad

PACK = """
import sys
import minigrad as mg
from minigrad import warmup
(mg.ones(10) + mg.arange(10.0)).sum()
warmup.STEPS.clear()
warmup.main(["--pack", sys.argv[1]])
"""

UNPACK = "import sys; from minigrad import warmup; warmup.main(['--unpack', sys.argv[1]])"

USE = """
import minigrad as mg
from minigrad.kernels.cpu._jit import compilations
print((mg.ones(10) + mg.arange(10.0)).sum().item(), compilations.count)
"""


def run(script: str, *arguments: object, **environment: object) -> subprocess.CompletedProcess[str]:
    settings = {key: str(value) for key, value in environment.items()}
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True,
        env={**os.environ, "MINIGRAD_PROGRESS": "0", **settings},
    )  # fmt: skip


def use(**environment: object) -> tuple[list[str], str]:
    """The sum and how many kernels were compiled; what was written to standard error."""
    done = run(USE, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    done = run(PACK, root / "kernels.zip", MINIGRAD_CACHE_DIR=root / "cache")
    assert done.returncode == 0, done.stderr
    assert "packed" in done.stdout
    return root / "kernels.zip"


@pytest.fixture(scope="module")
def unpacked(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unpacked")
    done = run(UNPACK, packed, MINIGRAD_CACHE_DIR=root)
    assert done.returncode == 0, done.stderr
    assert "unpacked" in done.stdout
    return root


def test_unpacked_kernels_are_not_compiled_again(unpacked: Path) -> None:
    assert use(MINIGRAD_CACHE_DIR=unpacked) == (["55.0", "0"], "")


def test_they_serve_minigrad_in_another_place(unpacked: Path, tmp_path: Path) -> None:
    package = Path(minigrad.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, tmp_path / "minigrad", ignore=ignored)
    for path in (tmp_path / "minigrad").rglob("*.py"):
        os.utime(path, (0, 0))  # as a package's installation may do
    assert use(MINIGRAD_CACHE_DIR=unpacked, PYTHONPATH=tmp_path) == (["55.0", "0"], "")


def test_a_shared_folder_is_read_besides_the_own_one(unpacked: Path, tmp_path: Path) -> None:
    before = sorted(unpacked.rglob("*"))
    where = {"MINIGRAD_CACHE_DIR": tmp_path, "MINIGRAD_SHARED_CACHE": unpacked}
    assert use(**where) == (["55.0", "0"], "")
    done = run(USE.replace("+", "*"), **where)
    assert done.stdout.split()[1] == "1"
    assert len(list(tmp_path.rglob("*.nbc"))) == 1
    assert sorted(unpacked.rglob("*")) == before


def test_kernels_for_another_processor_are_not_used(unpacked: Path, tmp_path: Path) -> None:
    (total, compiled), said = use(
        MINIGRAD_CACHE_DIR=tmp_path, MINIGRAD_SHARED_CACHE=unpacked, NUMBA_CPU_NAME="generic"
    )
    assert (total, int(compiled) > 2) == ("55.0", True)
    assert said.count("\n") == 1
    assert f"MINIGRAD_SHARED_CACHE={unpacked} is not used: kernels for processor" in said
    assert "here it is generic" in said


def test_a_shared_folder_without_kernels_is_reported(tmp_path: Path) -> None:
    done = run("import minigrad.kernels.cpu", MINIGRAD_SHARED_CACHE=tmp_path)
    assert done.stderr == (
        f"minigrad: MINIGRAD_SHARED_CACHE={tmp_path} is not used: there are no kernels\n"
    )


def test_a_file_for_another_processor_is_refused(packed: Path, tmp_path: Path) -> None:
    done = run(UNPACK, packed, MINIGRAD_CACHE_DIR=tmp_path, NUMBA_CPU_NAME="generic")
    assert done.returncode == 1
    assert done.stderr.startswith(f"minigrad: {packed} is not used: kernels for processor")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.nbc"))


@pytest.mark.parametrize("content", [None, b"", b"no zip file"])
def test_what_is_no_packed_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "kernels.zip"
    if content is not None:
        file.write_bytes(content)
    done = run(UNPACK, file, MINIGRAD_CACHE_DIR=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert str(file) in done.stderr


def test_nothing_is_unpacked_outside_the_cache(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        folder = archive.namelist()[0].partition("/")[0]
        contents = {name: archive.read(name) for name in archive.namelist()}
    crooked = tmp_path / "crooked.zip"
    with zipfile.ZipFile(crooked, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
        for name in ("../outside.nbc", f"{folder}/../outside.nbc", f"{folder}/a/b.nbc"):
            archive.writestr(name, b"")
    root = tmp_path / "cache"
    assert run(UNPACK, crooked, MINIGRAD_CACHE_DIR=root).returncode == 0
    written = {path.relative_to(root).as_posix() for path in tmp_path.rglob("*.nbc")}
    assert written == {name for name in contents if name.endswith(".nbc")}
