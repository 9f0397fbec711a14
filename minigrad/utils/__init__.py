"""What torch.utils has: checkpointing, data loading, weights from the net."""

from . import checkpoint as checkpoint
from . import data as data
from . import model_zoo as model_zoo
