"""Integers in kernels: strided loops and divisions are as narrow as the numbers of the launch."""

from __future__ import annotations

import re

import numpy as np

import minigrad as mg
from minigrad.kernels.cuda._compile import compile_kernel
from minigrad.kernels.cuda._launch import kernel, launch
from minigrad.kernels.cuda._span import fit, quotient, span


@kernel
def _walk(_):
    def walk(out, first, stop, step):
        k = 0
        for i in span(first, stop, step):
            out[k] = i
            k += 1
        out[k] = -1

    return walk


@kernel
def _divide(_):
    def divide(out, a, b):
        out[0] = quotient(a, b)
        out[1] = fit(a, b)

    return divide


def test_spans_have_the_numbers_of_a_range() -> None:
    top, beyond = 2**31 - 1, 2**33
    for first, stop, step in [
        (0, 7, 3), (2, 2, 1), (5, 3, 1), (top - 5, top, 3), (top - 1, top, top), (4, 6, 100),
        (beyond, beyond + 10, 4), (3, beyond, beyond // 2),
    ]:  # fmt: skip
        numbers = mg.zeros(8, dtype=mg.int64, device="cuda")
        launch(_walk(np.int64), ((1,), (1,)), numbers.array, first, stop, step)
        expected = [*range(first, stop, step), -1]
        assert numbers.tolist()[: len(expected)] == expected


def test_quotients_of_narrow_and_wide_numbers() -> None:
    for a, b in [(7, 2), (0, 5), (2**31 - 1, 1), (2**31 - 1, 3), (2**40 + 1, 3), (2**40, 2**39)]:
        found = mg.zeros(2, dtype=mg.int64, device="cuda")
        launch(_divide(np.int64), ((1,), (1,)), found.array, a, b)
        assert found.tolist()[0] == a // b


def test_narrow_numbers_are_not_divided_in_64_bits() -> None:
    for variant, numbers in ((_walk(np.int64), 3), (_divide(np.int64), 2)):
        ptx = compile_kernel(variant, ("int64*", *["int32"] * numbers), (9, 0)).ptx
        assert not re.search(r"\b(div|rem)\.[su]64", ptx)
