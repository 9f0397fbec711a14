"""Files that are whole or not at all, and folders that one process holds."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import minigrad as mg
from minigrad import serialization
from minigrad.files import held_alone, written_whole

# argv: the file. Ends, or waits for a line, with half of it written.
WRITER = """
import os, signal, sys
from minigrad.files import written_whole

with written_whole(sys.argv[1]) as part:
    part.write_text("half")
    part.with_name(".tmpAbCdEf").write_text("the writer's own temporary file")
    print("written", flush=True)
    if not sys.stdin.readline():
        os.kill(os.getpid(), signal.SIGKILL)
"""
HOLDER = """
import sys
from minigrad.files import held_alone

with held_alone(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def started(program: str, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_a_killed_writer_left_goes_with_the_next_file(tmp_path: Path) -> None:
    process = started(WRITER, tmp_path / "file")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    # Of other files, and what only looks like it, stays.
    (tmp_path / ".other.abcdefgh.tmp").mkdir()
    (tmp_path / ".file.notes.tmp").mkdir()
    (tmp_path / ".file.abcdefgh.tmp").write_text("not ours")
    serialization.save_file({"a": mg.ones(2)}, tmp_path / "file")
    assert names(tmp_path) == [".file.abcdefgh.tmp", ".file.notes.tmp", ".other.abcdefgh.tmp",
                               "file"]  # fmt: skip


def test_two_writers_of_one_file_leave_each_other_alone(tmp_path: Path) -> None:
    process = started(WRITER, tmp_path / "file")
    with written_whole(tmp_path / "file") as part:
        part.write_text("mine")
    assert (tmp_path / "file").read_text() == "mine"
    process.communicate("go on\n")
    assert process.returncode == 0
    assert (tmp_path / "file").read_text() == "half"
    assert names(tmp_path) == ["file"]


def test_a_failed_write_leaves_nothing_and_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")

    def fail(error: OSError) -> None:
        with written_whole(tmp_path / "file") as part:
            part.write_text("half")
            raise error

    full = errno.ENOSPC, os.strerror(errno.ENOSPC)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/file'"):
        fail(OSError(*full))
    with pytest.raises(OSError, match="No space left on device: 'another'"):
        fail(OSError(*full, "another"))
    with pytest.raises(OSError, match=r"^in words$"):
        fail(OSError("in words"))
    assert (tmp_path / "file").read_text() == "before"
    assert names(tmp_path) == ["file"]


def test_the_mode_of_a_file_is_the_process_own(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    serialization.save_file({"a": mg.ones(2)}, tmp_path / "file")  # its writer makes it 0600
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_is_held_until_its_process_ends(tmp_path: Path) -> None:
    process = started(HOLDER, tmp_path)
    said = f"{tmp_path} is in use by another process"
    with pytest.raises(BlockingIOError, match=said), held_alone(tmp_path):
        pass
    process.kill()
    process.communicate()
    with held_alone(tmp_path):
        assert names(tmp_path) == []
    with held_alone(tmp_path):  # and it was let go of
        pass
