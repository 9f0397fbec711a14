"""Transforms of single images, under torchvision's names; batches of arrays are transformed faster
by minigrad.data."""

from . import functional as functional
from .auto_augment import *
from .auto_augment import __all__ as _policies
from .classes import *
from .classes import __all__ as _classes

__all__ = [*_classes, *_policies, "functional"]
