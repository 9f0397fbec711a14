"""What torch.utils has: checkpointing."""

from . import checkpoint as checkpoint
