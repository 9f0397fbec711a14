"""What torch.utils has: checkpointing and data loading."""

from . import checkpoint as checkpoint
from . import data as data
