"""Settings of the backends, under torch's names: `minigrad.backends.cuda.allow_tf32`."""

from . import cuda as cuda
from . import cudnn as cudnn
