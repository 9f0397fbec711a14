"""Every operation on tensors that networks are built of, under torch.nn.functional's names."""

from ..ops.activation import *
from ..ops.attention import *
from ..ops.composed_loss import *
from ..ops.conv import *
from ..ops.divergence import *
from ..ops.embedding import *
from ..ops.grid import *
from ..ops.group_norm import *
from ..ops.loss import *
from ..ops.matmul import linear as linear
from ..ops.norm import *
from ..ops.one_dimensional import *
from ..ops.pad import *
from ..ops.pointwise_loss import *
from ..ops.pool import *
from ..ops.products import pdist as pdist
from ..ops.random import alpha_dropout as alpha_dropout
from ..ops.random import dropout as dropout
from ..ops.random import dropout1d as dropout1d
from ..ops.random import dropout2d as dropout2d
from ..ops.random import dropout3d as dropout3d
from ..ops.random import feature_alpha_dropout as feature_alpha_dropout
from ..ops.resample import *
from ..ops.roi import *
from ..ops.shuffle import *
from ..ops.softmax import log_softmax as log_softmax
from ..ops.softmax import softmax as softmax
from ..ops.unary import relu as relu
from ..ops.unary import relu_ as relu_
from ..ops.unary import sigmoid as sigmoid
from ..ops.unary import tanh as tanh
from ..ops.unfold import *
from ..ops.unpool import *
