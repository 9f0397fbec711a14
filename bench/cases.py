"""The table of operations that `bench.kernels` measures. To add one, add a record.

A record is `Operation(family, name, passes, call, inputs)`: `call` takes the engine (see
`bench.engines`) and the inputs; each of the passes states the work that it cannot do without,
floating-point operations under bound="sgemm", else the float32 elements of the arrays that must be
read and written, each counted once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

from minigrad.geometry import conv_output_size

from .operation import (
    Case,
    Operation,
    OptimizerStep,
    Pass,
    activation,
    boxes,
    constant,
    forward,
    gradient,
    labels,
    loss,
    products,
    step,
    weight,
)
from .training import layers, parameter_shapes

NETWORK_CONVOLUTIONS = "convolutions of the networks"
UNTUNED_CONVOLUTIONS = "convolutions of untuned networks"
TUNED = [("MNIST fixed", 16), ("MNIST fixed", 128), ("CIFAR A", 64), ("CIFAR B", 64)]
UNTUNED = [
    ("LeNet", 64), ("ResNet-20", 64), ("MobileNet 32²", 64), ("MobileNet 96²", 16), ("U-Net", 8),
    ("ResNet-18", 8),
]  # fmt: skip
ODD_CONVOLUTIONS = "convolutions of odd shapes"
PRODUCTS = "linear layers"
MEMORY = "memory-bound operations"
OPTIMIZERS = "optimizer steps of CIFAR B"
REGIONS = "regions and windows"

# Activations of CIFAR B at batch 64, after its first layer and after its last.
EARLY = (64, 16, 32, 32)
LATE = (64, 128, 4, 4)
E, L = math.prod(EARLY), math.prod(LATE)
# Rows for layer_norm and softmax, as large as EARLY.
ROWS = (1024, 1024)
R = math.prod(ROWS)
# A feature map of an 800×800 image at 1/16 of its size, and what one pass over it and its regions
# moves: the map and 512 regions of 7×7 cells.
FEATURES_AND_BOXES = activation(1, 256, 50, 50), boxes(512, 1, 800)
REGION_WORK = 256 * 50 * 50 + 512 * 256 * 7 * 7


def convolution(
    family: str,
    image: tuple[int, int, int, int],
    C_out: int,
    K: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    **options: bool,
) -> Operation:
    """A K×K convolution with bias of an (N, C_in, H, W) image.

    2·N·C_out·H_out·W_out·(C_in/groups)·K·K flop: what a matrix product of the unfolded image needs,
    zeros of the padding included. options: of Case.
    """
    N, C_in, H, W = image
    H_out, W_out = (conv_output_size(size, K, stride, 2 * padding, dilation) for size in (H, W))
    geometry = {"stride": stride, "dilation": dilation, "groups": groups}
    texts = [f"{name} {value}" for name, value in geometry.items() if value != 1]
    return Operation(
        family,
        " ".join([f"conv {C_in}→{C_out} {K}×{K}", *texts]),
        products(2 * N * C_out * H_out * W_out * (C_in // groups) * K * K),
        lambda e, x, w, b: e.F.conv2d(x, w, b, padding=padding, **geometry),
        (activation(*image), weight(C_out, C_in // groups, K, K), weight(C_out)),
        bound="sgemm",
        **options,
    )


def conv_transpose(
    family: str, image: tuple[int, int, int, int], C_out: int, K: int, stride: int, padding: int
) -> Operation:
    """2·N·C_in·H·W·C_out·K·K flop: every input pixel adds a kernel to the output."""
    C_in = image[1]
    return Operation(
        family,
        f"conv_transpose {C_in}→{C_out} {K}×{K} stride {stride}",
        products(2 * math.prod(image) * C_out * K * K),
        lambda e, x, w, b: e.F.conv_transpose2d(x, w, b, stride=stride, padding=padding),
        (activation(*image), weight(C_in, C_out, K, K), weight(C_out)),
        bound="sgemm",
    )


def network_convolutions(
    family: str, networks: Sequence[tuple[str, int]], **options: bool
) -> Iterator[Operation]:
    """Every distinct convolution of (network, batch). options: of `convolution`."""
    quick = {((64, 16, 32, 32), 16), ((64, 128, 4, 4), 128), ((128, 32, 7, 7), 64)}
    seen = set()
    for network, batch in networks:
        for layer in layers(network):
            if layer.kind == "Conv2d":
                _, C_out, K = layer.arguments
                image = (batch, *layer.given)
                stride, groups = layer.option("stride", 1), layer.option("groups", 1)
                key = image, C_out, K, stride, groups
                if key not in seen:
                    seen.add(key)
                    picked = {"quick": key[:2] in quick, **options}
                    padding = layer.option("padding", 0)
                    yield convolution(
                        family, image, C_out, K, stride, K // 2 if padding == "same" else padding,
                        groups=groups, **picked,
                    )  # fmt: skip


def linear(rows: int, features: int, out: int, quick: bool = False) -> Operation:
    return Operation(
        PRODUCTS,
        f"linear {features}→{out}",
        products(2 * rows * features * out),
        lambda e, x, w, b: e.F.linear(x, w, b),
        (activation(rows, features), weight(out, features), weight(out)),
        bound="sgemm",
        quick=quick,
    )


@functools.cache
def all_cases() -> tuple[Case, ...]:
    C = EARLY[1]
    parameters = tuple(parameter_shapes("CIFAR B"))
    P = sum(map(math.prod, parameters))
    return (
        *network_convolutions(NETWORK_CONVOLUTIONS, TUNED),
        *network_convolutions(UNTUNED_CONVOLUTIONS, UNTUNED, named=True, quick=False),
        convolution(ODD_CONVOLUTIONS, (64, 3, 64, 64), 16, 5, stride=2, dilation=2),
        convolution(ODD_CONVOLUTIONS, (64, 64, 32, 32), 64, 3, padding=1, groups=64, quick=True),
        convolution(ODD_CONVOLUTIONS, (64, 64, 28, 28), 128, 1),
        convolution(ODD_CONVOLUTIONS, (8, 3, 224, 224), 64, 7, stride=2, padding=3),
        conv_transpose(ODD_CONVOLUTIONS, (64, 64, 16, 16), 32, 2, stride=2, padding=0),
        linear(128, 576, 10, quick=True),
        linear(64, 1024, 1024),
        Operation(
            MEMORY, "relu", (forward(2 * E), gradient(3 * E)),
            lambda e, x: e.F.relu(x), (activation(*EARLY),), quick=True,
        ),
        Operation(
            MEMORY, "gelu", (forward(2 * E), gradient(3 * E)),
            lambda e, x: e.F.gelu(x), (activation(*EARLY),),
        ),
        Operation(
            MEMORY, "max_pool2d 2×2", (forward(E + E // 4), gradient(E + E // 4)),
            lambda e, x: e.F.max_pool2d(x, 2), (activation(*EARLY),), quick=True,
        ),
        Operation(
            MEMORY, "avg_pool2d 2×2", (forward(E + E // 4), gradient(E + E // 4)),
            lambda e, x: e.F.avg_pool2d(x, 2), (activation(*EARLY),),
        ),
        Operation(
            MEMORY, "adaptive_avg_pool2d 1×1", (forward(L + L // 16), gradient(L + L // 16)),
            lambda e, x: e.F.adaptive_avg_pool2d(x, 1), (activation(*LATE),),
        ),
        Operation(
            MEMORY, "batch_norm, training",
            (forward(2 * E), gradient(3 * E, 0, 1, 2, name="gradients")),
            lambda e, x, w, b, mean, var: e.F.batch_norm(x, mean, var, w, b, training=True),
            (activation(*EARLY), weight(C), weight(C), constant(C, 0), constant(C, 1)), quick=True,
        ),
        Operation(
            MEMORY, "layer_norm", (forward(2 * R), gradient(3 * R, 0, 1, 2, name="gradients")),
            lambda e, x, w, b: e.F.layer_norm(x, ROWS[1:], w, b),
            (activation(*ROWS), weight(ROWS[1]), weight(ROWS[1])),
        ),
        Operation(
            MEMORY, "softmax", (forward(2 * R), gradient(3 * R)),
            lambda e, x: e.F.softmax(x, dim=1), (activation(*ROWS),),
        ),
        Operation(
            MEMORY, "log_softmax", (forward(2 * R), gradient(3 * R)),
            lambda e, x: e.F.log_softmax(x, dim=1), (activation(*ROWS),),
        ),
        Operation(
            MEMORY, "cross_entropy", loss(2 * 64 * 10),
            lambda e, x, target: e.F.cross_entropy(x, target),
            (activation(64, 10), labels(64, 10)), quick=True,
        ),
        Operation(
            MEMORY, "cross_entropy", loss(2 * R),
            lambda e, x, target: e.F.cross_entropy(x, target), (activation(*ROWS), labels(*ROWS)),
        ),
        Operation(
            MEMORY, "mse_loss", (forward(2 * E), *loss(3 * E)),
            lambda e, x, target: e.F.mse_loss(x, target), (activation(*EARLY), activation(*EARLY)),
        ),
        Operation(
            MEMORY, "add", (forward(3 * E),),
            lambda e, x, y: x + y, (activation(*EARLY), activation(*EARLY)),
        ),
        Operation(MEMORY, "sum", (forward(E),), lambda e, x: x.sum(), (activation(*EARLY),)),
        # Adam reads p, grad, m, v and writes p, m, v.
        OptimizerStep(
            OPTIMIZERS, "Adam", step(7 * P),
            lambda e, params, **form: e.optim.Adam(params, lr=1e-3, **form),
            parameters, quick=True,
        ),
        OptimizerStep(
            OPTIMIZERS, "SGD", step(3 * P),
            lambda e, params, **form: e.optim.SGD(params, lr=1e-3, **form), parameters,
        ),
        OptimizerStep(
            OPTIMIZERS, "SGD, momentum", step(5 * P),
            lambda e, params, **form: e.optim.SGD(params, lr=1e-3, momentum=0.9, **form),
            parameters,
        ),
        Operation(
            REGIONS, "roi_pool 7×7 of 512 boxes", (forward(REGION_WORK), gradient(REGION_WORK)),
            lambda e, x, rois: e.regions.roi_pool(x, rois, 7, 1 / 16), FEATURES_AND_BOXES,
        ),
        Operation(
            REGIONS, "roi_align 7×7 of 512 boxes", (forward(REGION_WORK), gradient(REGION_WORK)),
            lambda e, x, rois: e.regions.roi_align(x, rois, 7, 1 / 16, 2, True),
            FEATURES_AND_BOXES,
        ),
        Operation(
            REGIONS, "unfold 3×3", (forward(10 * E), gradient(10 * E)),
            lambda e, x: e.F.unfold(x, 3, padding=1), (activation(*EARLY),), quick=True,
        ),
        Operation(
            REGIONS, "fold 3×3", (forward(10 * E), gradient(10 * E)),
            lambda e, x: e.F.fold(x, EARLY[2:], 3, padding=1),
            (activation(EARLY[0], 9 * EARLY[1], EARLY[2] * EARLY[3]),),
        ),
        conv_transpose(REGIONS, (64, 64, 8, 8), 64, 4, stride=2, padding=1),
    )  # fmt: skip


def rows() -> list[tuple[Case, Pass]]:
    return [(case, each) for case in all_cases() for each in case.passes]


def find(label: str) -> tuple[Case, Pass]:
    """The row of this label."""
    return next((case, each) for case, each in rows() if case.label(each) == label)
