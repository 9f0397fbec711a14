"""Capture and replay of a training step: `minigrad.capture` records it, and repeats it at once.

It stands above the engine and watches it as an `Observer`. The package is named after what it
makes, because `minigrad.capture` is the function: a package of that name would take its place.
"""

from .capture import CapturedStep, capture

__all__ = ["CapturedStep", "capture"]
