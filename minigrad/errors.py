"""Exceptions: the errors that minigrad raises for what a user passes in.

Each is also the built-in error that a NumPy or torch user would catch. The message names the
operation, the rule and the values: `conv2d: weight expects 16 input channels, got input of shape
(8, 3, 32, 32)`.
"""


class MinigradError(Exception):
    """Base of every error below."""


class ShapeError(MinigradError, ValueError):
    """Shapes, sizes or geometry that an operation does not accept."""


class DTypeError(MinigradError, TypeError):
    """An element type that an operation does not accept, or a mix of two."""


class DeviceError(MinigradError, RuntimeError):
    """An unknown or absent device, or tensors on different ones."""


class GraphError(MinigradError, RuntimeError):
    """A misuse of the autograd graph: freed buffers, in-place changes, missing gradients."""


class GradcheckError(MinigradError, RuntimeError):
    """A backward pass that numerical differentiation contradicts."""


class TargetError(MinigradError, IndexError):
    """A class index or a position outside its range."""


class CheckpointError(MinigradError, RuntimeError):
    """A state dict or checkpoint file that does not fit the object it is loaded into."""


class DataError(MinigradError, ValueError):
    """A data file that is truncated, damaged or not what it should be."""


class DistributedError(MinigradError, RuntimeError):
    """Ranks that do not fit together: a missing process group, different calls or tensors."""
