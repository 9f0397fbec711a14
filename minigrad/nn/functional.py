"""Every operation on tensors that networks are built of, under torch.nn.functional's names."""

from __future__ import annotations

from ..ops import activation as _activation
from ..ops.activation import *
from ..ops.conv import conv2d, conv_transpose2d
from ..ops.divergence import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    kl_div,
)
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
from ..ops.unary import relu, sigmoid, tanh
from ..ops.unfold import fold, unfold
from ..ops.unpool import max_unpool2d

__all__ = [
    *_activation.__all__,
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "fold",
    "group_norm",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "linear",
    "log_softmax",
    "max_pool2d",
    "max_unpool2d",
    "mse_loss",
    "nll_loss",
    "pad",
    "relu",
    "roi_align",
    "roi_pool",
    "sigmoid",
    "smooth_l1_loss",
    "softmax",
    "tanh",
    "unfold",
]
