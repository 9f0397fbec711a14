"""Vision operations: boxes and their losses, pooling over regions, blocks of networks, under
torchvision.ops' names and in files of its names.

    import minigrad.vision as ops
"""

from ..nn import RoIAlign, RoIPool
from ..ops.roi import roi_align, roi_pool
from .boxes import *
from .boxes import __all__ as _boxes
from .deform_conv import *
from .deform_conv import __all__ as _deform_conv
from .drop_block import *
from .drop_block import __all__ as _drop_block
from .feature_pyramid_network import FeaturePyramidNetwork
from .losses import *
from .losses import __all__ as _losses
from .misc import MLP, Conv2dNormActivation, FrozenBatchNorm2d, Permute, SqueezeExcitation
from .poolers import MultiScaleRoIAlign
from .ps_roi import *
from .ps_roi import __all__ as _ps_roi
from .stochastic_depth import StochasticDepth, stochastic_depth

__all__ = [
    *_boxes, *_deform_conv, *_drop_block, *_losses, *_ps_roi, "MLP", "Conv2dNormActivation",
    "FeaturePyramidNetwork", "FrozenBatchNorm2d", "MultiScaleRoIAlign", "Permute", "RoIAlign",
    "RoIPool", "SqueezeExcitation", "StochasticDepth", "roi_align", "roi_pool", "stochastic_depth",
]  # fmt: skip
