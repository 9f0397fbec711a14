"""Losses that compare distributions: the formulas of compiled/divergence.py."""

from ..compiled import divergence
from ._map import launchers

globals().update(launchers(divergence))
