"""Layers, containers, initial values and the functional forms, under torch.nn's names."""

from . import functional as functional
from . import init as init
from . import modules as modules
from . import parallel as parallel
from . import utils as utils
from .activation import *
from .attention import *
from .containers import *
from .conv import *
from .embedding import *
from .fusion import *
from .layers import *
from .lazy import *
from .losses import *
from .module import *
from .padding import *
from .parameter import *
from .recurrent import *
from .regions import *
from .resample import *
from .stateless import *
from .summary import *
from .sync_batch_norm import *
