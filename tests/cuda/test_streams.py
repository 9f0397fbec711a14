"""Streams and events."""

from __future__ import annotations

import pytest

import minigrad as mg


def test_work_on_another_stream_is_in_order() -> None:
    x = mg.ones(3, device="cuda")
    before = mg.cuda.current_stream()
    side = mg.cuda.Stream()
    with mg.cuda.stream(side):
        assert mg.cuda.current_stream() == side
        y = x * 2
    assert mg.cuda.current_stream() == before
    assert (y + 1).tolist() == [3, 3, 3]


def test_the_stream_comes_back_after_an_error() -> None:
    before = mg.cuda.current_stream()
    with pytest.raises(KeyError), mg.cuda.stream(mg.cuda.Stream()):
        raise KeyError
    assert mg.cuda.current_stream() == before


def test_events_measure_what_lies_between() -> None:
    start, end = mg.cuda.Event(), mg.cuda.Event()
    start.record()
    mg.rand(100, device="cuda").exp()
    end.record()
    end.synchronize()
    assert start.elapsed_time(end) > 0


def test_a_captured_step_stays_on_one_stream() -> None:
    side = mg.cuda.Stream()

    @mg.capture
    def step(x: mg.Tensor) -> mg.Tensor:
        with mg.cuda.stream(side):
            return x + 1

    x = mg.ones(2, device="cuda")
    with pytest.raises(mg.GraphError, match="one stream"):
        step(x)
