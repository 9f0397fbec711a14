"""torchvision.transforms.v2: the same steps; all take (image, label) and dicts."""

from . import auto_augment, classes
from . import functional as functional

__all__ = [*classes.__all__, *auto_augment.__all__, "functional"]
globals().update({name: vars(classes)[name] for name in classes.__all__})
globals().update({name: vars(auto_augment)[name] for name in auto_augment.__all__})
