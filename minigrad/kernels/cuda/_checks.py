"""What a value check has found, put where the host looks later: see runtime/cuda/checks.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...runtime.cuda import checks
from ...runtime.cuda.array import DeviceArray
from ._launch import kernel, launch


@kernel
def _keep(_):
    def keep(entry, numbers, flag, values, rows, width, row_step, col_step, keeps):
        # One thread. An entry that keeps what it has found is left as it is.
        at = flag[0]
        if not keeps or entry[0] == 0:
            entry[0] = 0
            if 0 <= at < rows:
                entry[0] = at + 1
                for j in range(width):
                    numbers[1 + j] = values[at * row_step + j * col_step]

    return keep


def keep(flag: DeviceArray, values: DeviceArray, refuse: checks.Refuse) -> None:
    """At the next synchronisation: refuse(k, row k of values) if flag[0] is k, a row's number.

    flag: (1,) int64. values: (rows,) or (rows, up to checks.VALUES).
    """
    floating = values.dtype.kind == "f"
    rows: Any = values.reshape(-1, 1) if values.ndim == 1 else values
    row_step, col_step = [step // values.itemsize for step in rows.strides]
    with values.driver.turn:
        entry, keeps = checks.defer(checks.Row(refuse, rows.shape[1], floating), values.driver)
        numbers = entry.view(np.float64) if floating else entry
        launch(
            _keep(values.dtype), ((1,), (1,)), entry, numbers, flag, rows, *rows.shape,
            row_step, col_step, keeps,
        )  # fmt: skip
