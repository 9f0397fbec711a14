"""kernels/cpu/conv/plan.py: which algorithm computes a convolution, and that each computes it."""

from __future__ import annotations

import tracemalloc
from typing import Any, get_args

import numpy as np
import pytest
import torch

from minigrad.geometry import Conv2dDims, conv2d_dims
from minigrad.kernels.cpu import conv, conv_weight
from minigrad.kernels.cpu.conv.plan import Algorithm, Direction, plan, workspace_now
from minigrad.kernels.protocol import UNLIMITED

# Name, (N, C_in, H, W), C_out, kernel size, options, and the algorithms of the result, the input
# gradient and the weight gradient: the same for vectors of every width.
RECORDS: list[tuple[str, tuple[int, ...], int, int, dict[str, Any], tuple[str, str, str]]] = [
    ("many channels", (8, 32, 8, 8), 32, 3, {"padding": 1}, ("winograd", "winograd", "winograd")),
    ("16 from 32", (2, 16, 16, 16), 32, 3, {"padding": 1}, ("winograd", "rows", "winograd")),
    ("along rows", (1, 17, 8, 56), 8, 3, {"padding": 1}, ("rows", "rows", "rows")),
    ("first layer", (2, 1, 14, 14), 5, 5, {"stride": 2, "padding": 2},
     ("direct", "few channels", "few channels")),
    ("first layer, stride 1", (1, 2, 9, 28), 20, 3, {"padding": 1},
     ("rows", "few channels", "rows")),
    ("a filter each", (2, 8, 7, 9), 8, 3, {"groups": 8}, ("depthwise", "depthwise", "depthwise")),
    ("large filters", (1, 4, 31, 31), 4, 31, {"padding": 15, "groups": 4},
     ("depthwise", "depthwise", "direct")),
    ("strided", (9, 24, 9, 9), 20, 3, {"stride": 2, "padding": 1}, ("direct", "direct", "direct")),
    ("large weight", (2, 96, 10, 10), 100, 3, {"padding": 1}, ("direct", "direct", "rows")),
    ("large weight, strided", (9, 90, 9, 9), 100, 3, {"stride": 2, "padding": 1},
     ("direct", "direct", "direct")),
    ("large weight along rows", (1, 100, 3, 28), 90, 3, {"padding": 1}, ("rows", "rows", "rows")),
    ("weight of several blocks", (2, 300, 3, 3), 200, 3, {"padding": 1},
     ("direct", "direct", "direct")),
    ("pixel by pixel", (3, 24, 5, 6), 20, 1, {}, ("direct", "direct", "direct")),
    ("groups", (2, 24, 9, 9), 20, 3, {"groups": 2}, ("direct", "direct", "direct")),
]  # fmt: skip
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


def sizes(record: Any) -> Conv2dDims:
    _, shape, C_out, size, options, _ = record
    groups = options.get("groups", 1)
    return conv2d_dims(
        shape, (C_out, shape[1] // groups, size, size), None, options.get("stride", 1),
        options.get("padding", 0), 1, groups,
    )  # fmt: skip


def arrays(d: Conv2dDims, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NHWC input, weight in kernels' order, NHWC gradient of the output."""
    draw = np.random.default_rng(0).standard_normal
    shapes = (
        (d.N, d.H, d.W, d.C_in), (d.kH, d.kW, d.C_in // d.groups, d.C_out),
        (d.N, d.H_out, d.W_out, d.C_out),
    )  # fmt: skip
    input, weight, grad_output = (draw(shape).astype(dtype) for shape in shapes)
    return input, weight, grad_output


def launch(
    direction: str, d: Conv2dDims, input: Any, weight: Any, grad_output: Any, scratch: Any
) -> np.ndarray:
    """One direction, with scratch that is as large as was asked for and full of NaN."""
    scratch[:] = np.nan
    if direction == "forward":
        out = np.full_like(grad_output, np.nan)
        conv.conv2d_forward(out, input, weight, None, None, scratch, d, UNLIMITED)
    elif direction == "adjoint":
        out = np.full_like(input, np.nan)
        conv.conv2d_backward_input(out, grad_output, weight, scratch, d)
    else:
        out = np.full_like(weight, np.nan)
        conv_weight.conv2d_backward_weight(out, grad_output, input, scratch, d)
    return out


def torchs(d: Conv2dDims, input: Any, weight: Any, grad_output: Any) -> list[np.ndarray]:
    """The same three arrays from torch in float64."""
    x, w, g = (torch.tensor(a, dtype=torch.float64) for a in (input, weight, grad_output))
    x, w, g = x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), g.permute(0, 3, 1, 2)
    x, w = x.requires_grad_(), w.requires_grad_()
    out = torch.nn.functional.conv2d(
        x, w, None, (d.stride_h, d.stride_w), (d.top, d.left), 1, d.groups
    )
    x_grad, w_grad = torch.autograd.grad(out, (x, w), g)
    images = [a.detach().permute(0, 2, 3, 1).numpy() for a in (out, x_grad)]
    return [*images, w_grad.permute(2, 3, 1, 0).numpy()]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record[0])
def test_the_algorithm_is_the_one_of_the_table(record: Any) -> None:
    for dtype in (np.float32, np.float64):
        chosen = [plan(sizes(record), direction, np.dtype(dtype)) for direction in DIRECTIONS]
        assert tuple(each.algorithm for each in chosen) == record[-1]


def test_the_records_take_every_algorithm_in_every_direction_that_it_serves() -> None:
    taken = [{record[-1][i] for record in RECORDS} for i in range(3)]
    assert taken[0] | taken[1] == set(conv._CONVOLVE) == set(get_args(Algorithm))
    assert taken[2] == set(conv_weight._CORRELATE) == set(get_args(Algorithm))


def test_large_weights_are_packed_and_cut_into_blocks() -> None:
    def packed(name: str, direction: Direction) -> tuple[bool, bool]:
        record = next(record for record in RECORDS if record[0] == name)
        chosen = plan(sizes(record), direction, np.dtype(np.float32))
        columns = record[2] if direction == "forward" else record[1][1]
        return chosen.panel > 0, chosen.columns < columns

    for direction in ("forward", "adjoint"):
        assert packed("strided", direction) == (False, False)
        for name in ("large weight", "large weight, strided", "large weight along rows"):
            assert packed(name, direction) == (True, False)
        assert packed("weight of several blocks", direction) == (True, True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record[0])
def test_every_direction_equals_torch(record: Any, dtype: Any) -> None:
    d = sizes(record)
    given = arrays(d, dtype)
    tolerance = 3e-6 if dtype == np.float32 else 1e-14
    for direction, expected in zip(DIRECTIONS, torchs(d, *given), strict=True):
        scratch = np.empty(workspace_now(d, direction), dtype)
        result = launch(direction, d, *given, scratch)
        np.testing.assert_allclose(
            result, expected, rtol=0, atol=tolerance * abs(expected).max(), err_msg=direction
        )


def test_no_images_have_no_weight_gradient() -> None:
    d = sizes(RECORDS[0])._replace(N=0)
    given = arrays(d, np.float32)
    for direction in DIRECTIONS:
        scratch = np.empty(workspace_now(d, direction), np.float32)
        result = launch(direction, d, *given, scratch)
        assert result.size == 0 if direction != "weight" else not result.any()


# Weight gradients that are computed again where an infinity may have met a zero of the border.
AGAIN = [
    ("winograd", (8, 32, 8, 8), 32, 3, {"padding": 1}),
    ("rows, more partial sums than directly", (1, 3, 64, 64), 200, 3, {"padding": 1}),
]


@pytest.mark.parametrize("record", AGAIN, ids=lambda record: record[0])
def test_an_infinity_stays_where_the_definition_has_it(record: Any) -> None:
    d = sizes((*record, None))
    input, weight, grad_output = arrays(d, np.float32)
    input[0, 0, 0, 0] = np.inf
    chosen = plan(d, "weight", np.dtype(np.float32))
    assert chosen.exact is not None
    assert chosen.chunks > chosen.exact.chunks or chosen.algorithm == "winograd"
    scratch = np.empty(workspace_now(d, "weight"), np.float32)
    result = launch("weight", d, input, weight, grad_output, scratch)
    # The corner is the first tap's and the middle's; the last taps never see it.
    assert not np.isfinite(result[1, 1, 0]).any()
    assert np.isfinite(result[:, :, 1:]).all()
    assert np.isfinite(result[2, :, 0]).all()


@pytest.mark.parametrize(
    ("shape", "C_out", "algorithm"),
    [((2, 2048, 16, 16), 16, "winograd"), ((1, 8, 8, 56), 512, "rows")],
)
def test_launchers_take_their_memory_from_scratch(
    shape: tuple[int, ...], C_out: int, algorithm: str
) -> None:
    d = sizes(("", shape, C_out, 3, {"padding": 1}, None))
    assert plan(d, "weight", np.dtype(np.float32)).algorithm == algorithm
    input, weight, grad_output = arrays(d, np.float32)
    scratch = np.empty(workspace_now(d, "weight"), np.float32)
    out = np.empty_like(weight)
    # The first call compiles, and makes the tables of this shape.
    conv_weight.conv2d_backward_weight(out, grad_output, input, scratch, d)
    tracemalloc.start()
    conv_weight.conv2d_backward_weight(out, grad_output, input, scratch, d)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8192  # headers of views; a flag or an index for each channel is more
