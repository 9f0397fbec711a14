"""Convolution from first principles, in six steps, each checked against the one before.

    python examples/convolution_from_scratch.py

1. the seven nested loops            4. unfold → matmul → fold, as a Module
2. the output-size formula           5. the gradients, derived by hand
3. unfold → matmul → fold            6. a Function with its own backward, on the tape

What each step means is told in docs/convolution.md.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from anywhere

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import Tensor, nn

# Step 1: the definition -----------------------------------------------------------------------


def conv2d_loops(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int
) -> np.ndarray:
    """Seven loops: over images, output channels, rows and columns, then over the window.

    x (N, C_in, H, W), weight (C_out, C_in, kH, kW), bias (C_out,) → (N, C_out, H_out, W_out)
    """
    N, C_in, H, W = x.shape
    C_out, _, kH, kW = weight.shape
    H_out, W_out = (output_size(size, k, stride, padding) for size, k in ((H, kH), (W, kW)))
    out = np.zeros((N, C_out, H_out, W_out))
    for n in range(N):
        for co in range(C_out):
            for oh in range(H_out):
                for ow in range(W_out):
                    total = bias[co]
                    for ci in range(C_in):
                        for kh in range(kH):
                            for kw in range(kW):
                                h = oh * stride - padding + kh
                                w = ow * stride - padding + kw
                                if 0 <= h < H and 0 <= w < W:  # the padding is zero
                                    total += x[n, ci, h, w] * weight[co, ci, kh, kw]
                    out[n, co, oh, ow] = total
    return out


# Step 2: how large the output is --------------------------------------------------------------


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Windows start at −padding, −padding + stride, …; the last one must end inside.

    o·stride − padding + kernel ≤ size + padding   for o = 0 … outputs − 1
    ⟹ outputs = ⌊(size + 2·padding − kernel) / stride⌋ + 1
    """
    return (size + 2 * padding - kernel) // stride + 1


# Step 3: one product of matrices --------------------------------------------------------------


def conv2d_unfolded(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """unfold: each window becomes a column. matmul: each kernel meets each column. fold: back.

    U (N, C_in·kH·kW, L),  K (C_out, C_in·kH·kW),  Y = K·U + b (N, C_out, L),  L = H_out·W_out
    """
    C_out, _, kH, kW = weight.shape
    H_out = output_size(x.shape[2], kH, stride, padding)
    W_out = output_size(x.shape[3], kW, stride, padding)
    U = F.unfold(x, (kH, kW), padding=padding, stride=stride)
    Y = weight.reshape(C_out, -1) @ U + bias.reshape(C_out, 1)
    # Windows of 1×1 do not overlap: here fold only lays the columns out as an image.
    return F.fold(Y, (H_out, W_out), 1)


# Step 4: as a layer ---------------------------------------------------------------------------


class UnfoldedConv2d(nn.Module):
    """Step 3 with its own parameters: the tape differentiates unfold, matmul and fold for us."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_channels * kernel * kernel)
        shape = (out_channels, in_channels, kernel, kernel)
        self.weight = nn.Parameter(mg.rand(*shape) * (2 * bound) - bound)
        self.bias = nn.Parameter(mg.zeros(out_channels))
        self.stride, self.padding = stride, padding

    def forward(self, input: Tensor) -> Tensor:
        return conv2d_unfolded(input, self.weight, self.bias, self.stride, self.padding)


# Steps 5 and 6: the gradients by hand, on the tape --------------------------------------------


class MyConv2d(mg.Function):
    """Y = K·U + b with U = unfold(X). For a loss with gradient Y∇ of Y:

    K∇ = Σ_n Y∇·Uᵀ        since Y[o, l] = Σ_r K[o, r]·U[r, l]
    U∇ = Kᵀ·Y∇            for the same reason, with the roles exchanged
    X∇ = fold(U∇)         since unfold copies, and a pixel collects from all its copies
    b∇ = Σ_{n, l} Y∇      since b is added to every column
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return conv2d_unfolded(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        C_out, _, kH, kW = weight.shape
        window = {"padding": ctx.padding, "stride": ctx.stride}
        Y_grad = grad_output.reshape(x.shape[0], C_out, -1)
        U = F.unfold(x, (kH, kW), **window)
        K_grad = (Y_grad @ U.transpose(1, 2)).sum(0)
        U_grad = weight.reshape(C_out, -1).T @ Y_grad
        X_grad = F.fold(U_grad, x.shape[2:], (kH, kW), **window)
        return X_grad, K_grad.reshape(weight.shape), Y_grad.sum((0, 2)), None, None


# The walk -------------------------------------------------------------------------------------


def gradients(function: Callable[..., Tensor], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Gradients of Σ cos(output) with respect to every array: no two outputs weigh the same."""
    tensors = [mg.tensor(array, requires_grad=True) for array in arrays]
    mg.cos(function(*tensors)).sum().backward()
    return [tensor.grad.numpy() for tensor in tensors]


def largest(left: list[np.ndarray], right: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(left, right, strict=True))


def report(step: str, what: str, difference: float, allowed: float = 1e-12) -> None:
    print(f"{step:<34}{what:<44}{difference:9.1e}")
    assert difference <= allowed, f"{step}: {difference} is more than {allowed}"


def main() -> dict[str, float]:
    generator = np.random.default_rng(0)
    stride, padding = 2, 1
    x = generator.standard_normal((2, 3, 9, 8))
    weight, bias = generator.standard_normal((4, 3, 5, 5)), generator.standard_normal(4)
    arrays = [x, weight, bias]
    tensors = [mg.tensor(array) for array in arrays]

    print(f"{'step':<34}{'checked against':<44}{'largest difference':>9}\n{'─' * 96}")
    found: dict[str, float] = {}

    loops = conv2d_loops(x, weight, bias, stride, padding)
    direct = F.conv2d(*tensors, stride, padding).numpy()
    found["loops"] = largest([loops], [direct])
    report("1. seven loops", "minigrad.nn.functional.conv2d", found["loops"])

    for image in ((1024, 768), (1920, 1080)):
        H_out, W_out = (output_size(n, 5, stride, padding) for n in image)
        out = F.conv2d(mg.zeros(3, *image), mg.zeros(16, 3, 5, 5), None, stride, padding)
        assert out.shape == (16, H_out, W_out)
        print(f"2. output size{'':<20}(3, {image[0]}, {image[1]}) → {out.shape}")
    try:
        F.conv2d(mg.zeros(8, 1024, 768), mg.zeros(16, 3, 5, 5), None, stride, padding)
    except mg.ShapeError as error:
        print(f"{'   8 channels':<34}ShapeError: {error}")

    unfolded = conv2d_unfolded(*tensors, stride, padding).numpy()
    found["unfold"] = largest([unfolded], [loops])
    report("3. unfold → matmul → fold", "the loops", found["unfold"])

    layer = UnfoldedConv2d(3, 4, 5, stride, padding).double()
    theirs = nn.Conv2d(3, 4, 5, stride, padding).double()
    theirs.load_state_dict(layer.state_dict())
    found["layer"] = largest([layer(tensors[0]).detach().numpy()],
                             [theirs(tensors[0]).detach().numpy()])  # fmt: skip
    report("4. as a Module", "nn.Conv2d with the same parameters", found["layer"])

    by_tape = gradients(lambda *t: conv2d_unfolded(*t, stride, padding), arrays)
    by_hand = gradients(lambda *t: MyConv2d.apply(*t, stride, padding), arrays)
    by_kernel = gradients(lambda *t: F.conv2d(*t, stride, padding), arrays)
    found["by hand"] = largest(by_hand, by_tape)
    report("5. gradients by hand", "the tape's, through unfold and fold", found["by hand"])
    found["kernel"] = largest(by_hand, by_kernel)
    report("6. MyConv2d on the tape", "conv2d's hand-written kernels", found["kernel"])
    for tensor in tensors:
        tensor.requires_grad = True
    mg.gradcheck(lambda *t: MyConv2d.apply(*t, stride, padding), tensors)
    print(f"{'   gradcheck':<34}numerical differentiation agrees")
    return found


if __name__ == "__main__":
    main()
