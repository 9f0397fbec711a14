"""Philox in NumPy: known answers, and numbers that look random."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.data import _random


# Source: Random123, kat_vectors, philox4x32 with 10 rounds.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (
            [0xFFFFFFFF] * 4,
            (0xFFFFFFFF, 0xFFFFFFFF),
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers(
    counter: list[int], key: tuple[int, int], expected: list[int]
) -> None:
    given = np.array(counter, np.uint64)[:, None]
    assert _random.philox4x32(given, key)[:, 0].tolist() == expected


def test_words_differ_by_index_seed_epoch_and_stream() -> None:
    base = np.arange(1000)
    drawn = [
        _random.words(base, 1, 1, 1),
        _random.words(base + 2**32, 1, 1, 1),
        _random.words(base, 1 + 2**32, 1, 1),
        _random.words(base, 1, 2, 1),
        _random.words(base, 1, 1, 2),
    ]
    assert len(np.unique(np.concatenate(drawn, axis=1)[0])) > 4990
    uniform = drawn[0] / 2**32
    assert (abs(uniform.mean(1) - 0.5) < 0.04).all()


def test_permutation_holds_every_position_once() -> None:
    order = _random.permutation(np.arange(5000), 0, 0, 0)
    np.testing.assert_array_equal(np.sort(order), np.arange(5000))
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05
