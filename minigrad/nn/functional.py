"""Every operation on tensors that networks are built of, under torch.nn.functional's names."""

from __future__ import annotations

from ..ops.activation import (
    celu,
    elu,
    gelu,
    hardtanh,
    leaky_relu,
    logsigmoid,
    relu6,
    selu,
    silu,
    softplus,
)
from ..ops.conv import conv2d, conv_transpose2d
from ..ops.divergence import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    kl_div,
)
from ..ops.elementwise import relu, sigmoid, tanh
from ..ops.group_norm import group_norm, layer_norm
from ..ops.loss import cross_entropy, nll_loss
from ..ops.matmul import linear
from ..ops.norm import batch_norm
from ..ops.pad import pad
from ..ops.pointwise_loss import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from ..ops.pool import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from ..ops.random import dropout, dropout2d
from ..ops.roi import roi_align, roi_pool
from ..ops.softmax import log_softmax, softmax
from ..ops.unfold import fold, unfold
from ..ops.unpool import max_unpool2d

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "elu",
    "fold",
    "gelu",
    "group_norm",
    "hardtanh",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool2d",
    "max_unpool2d",
    "mse_loss",
    "nll_loss",
    "pad",
    "relu",
    "relu6",
    "roi_align",
    "roi_pool",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
    "unfold",
]
