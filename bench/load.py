"""How much of the cores other processes used while something was measured.

On Linux: the time that the cores were busy (/proc/stat, the hypervisor's share included) less what
our own processes used (/proc/<pid>/stat). Both count ticks of 10 ms. Elsewhere nobody knows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

LIMIT = 0.1  # of a core; what another process may use while a figure is measured
_ROUNDING = 2  # ticks by which the two counts may differ


def allowed_cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


class Watch:
    """From its making on, watches the cores that this process may use.

    own: processes that belong to the measurement. proc: where the system reports.
    """

    def __init__(self, own: Collection[int], proc: Path = Path("/proc")) -> None:
        self._own, self._proc = {os.getpid(), *own}, proc
        self._start, self._before = time.perf_counter(), self._ticks()

    def others(self) -> float | None:
        """How many cores other processes used since then, on average; None: unknown."""
        ticks, seconds = self._ticks(), time.perf_counter() - self._start
        if ticks is None or self._before is None:
            return None
        used = max(0, ticks - self._before - _ROUNDING)
        return used / os.sysconf("SC_CLK_TCK") / seconds

    def _ticks(self) -> int | None:
        """Ticks in which a core worked, but not for us."""
        try:
            lines = (self._proc / "stat").read_text().splitlines()
            return self._busy(lines) - sum(map(self._used_by, self._own))
        except (OSError, ValueError, IndexError):
            return None

    def _busy(self, lines: list[str]) -> int:
        cores = {f"cpu{number}" for number in allowed_cores()}
        fields = [line.split() for line in lines]
        chosen = [each[1:] for each in fields if each and each[0] in cores]
        # user, nice, system, idle, iowait, irq, softirq, steal
        busy = sum(int(each[i]) for each in chosen for i in (0, 1, 2, 5, 6, 7))
        if not busy:  # no line for a core, or a sandbox that counts nothing
            raise ValueError("no ticks")
        return busy

    def _used_by(self, pid: int) -> int:
        try:
            after_name = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:  # it has ended
            return 0
        return int(after_name[11]) + int(after_name[12])  # utime, stime


def load_note() -> str:
    """What is known before anything is measured."""
    if Watch([]).others() is not None:
        return f"rows while others used more than {LIMIT:.0%} of a core are repeated or marked"
    average = f"; load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"this system does not tell what other processes use, so no row is marked{average}"
