"""Tensor methods: the operators and methods of Tensor, in one list.

A method is the public function of the same name, with the tensor as first argument. Type checkers
and editors read the class below as a base of `Tensor`; when this module is imported, its members
are attached to `Tensor`, which knows no operation.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from ..engine import Tensor
from ..engine.backward import (
    register_hook,
    register_post_accumulate_grad_hook,
    retain_grad,
    retains_grad,
)
from . import (
    access,
    arithmetic,
    cast,
    compare,
    creation,
    division,
    exchange,
    extrema,
    functions,
    indexing,
    join,
    matmul,
    parts,
    printing,
    products,
    random,
    rearrange,
    reduce,
    scan,
    search,
    unary,
    vector_norm,
)
from . import scatter as scatters
from . import select as selection
from . import shape as shapes
from . import softmax as softmaxes
from . import sort as sorting
from .inplace import InPlace
from .promotion import OPERAND_TYPES


def _operator(function: Callable[..., Tensor]) -> Callable[[Tensor, Any], Tensor]:
    """tensor ∘ other; Python looks further if `other` is nothing that an operation takes."""

    def method(self: Tensor, other: Any) -> Tensor:
        return function(self, other) if isinstance(other, OPERAND_TYPES) else NotImplemented

    return method


def _reflected(function: Callable[..., Tensor]) -> Callable[[Tensor, Any], Tensor]:
    """other ∘ tensor, where `other` is no Tensor."""

    def method(self: Tensor, other: Any) -> Tensor:
        return function(other, self) if isinstance(other, OPERAND_TYPES) else NotImplemented

    return method


def _divmod(self: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    """divmod(tensor, other)"""
    return division.floor_divide(self, other), division.remainder(self, other)


def _reflected_divmod(self: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    """divmod(other, tensor)"""
    return division.floor_divide(other, self), division.remainder(other, self)


def _pos(input: Tensor) -> Tensor:
    """The tensor itself."""
    return input


def _where(input: Tensor, condition: Tensor, other: Any) -> Tensor:
    """input where the condition holds, else other."""
    return compare.where(condition, input, other)


def _is_cuda(input: Tensor) -> bool:
    """Whether the tensor lies in a GPU's memory."""
    return input.device.type == "cuda"


class Methods(InPlace):
    """What Tensor can do, besides what the engine gives it."""

    # Operators
    __add__ = _operator(arithmetic.add)
    __radd__ = _reflected(arithmetic.add)
    __sub__ = _operator(arithmetic.sub)
    __rsub__ = _reflected(arithmetic.sub)
    __mul__ = _operator(arithmetic.mul)
    __rmul__ = _reflected(arithmetic.mul)
    __truediv__ = _operator(arithmetic.div)
    __rtruediv__ = _reflected(arithmetic.div)
    __floordiv__ = _operator(division.floor_divide)
    __rfloordiv__ = _reflected(division.floor_divide)
    __mod__ = _operator(division.remainder)
    __rmod__ = _reflected(division.remainder)
    __divmod__ = _divmod
    __rdivmod__ = _reflected_divmod
    __pow__ = _operator(arithmetic.pow)
    __rpow__ = _reflected(arithmetic.pow)
    __matmul__ = _operator(matmul.matmul)
    __rmatmul__ = _reflected(matmul.matmul)
    __neg__ = arithmetic.neg
    __pos__ = _pos
    __abs__ = unary.abs
    __eq__ = _operator(compare.eq)  # type: ignore[assignment]
    __ne__ = _operator(compare.ne)  # type: ignore[assignment]
    __lt__ = _operator(compare.lt)
    __le__ = _operator(compare.le)
    __gt__ = _operator(compare.gt)
    __ge__ = _operator(compare.ge)
    # Elementwise equality says nothing of identity, and that is what sets and dicts go by.
    __hash__ = object.__hash__
    __and__ = _operator(compare.bitwise_and)
    __rand__ = _reflected(compare.bitwise_and)
    __or__ = _operator(compare.bitwise_or)
    __ror__ = _reflected(compare.bitwise_or)
    __xor__ = _operator(compare.bitwise_xor)
    __rxor__ = _reflected(compare.bitwise_xor)
    __invert__ = compare.bitwise_not
    __lshift__ = _operator(division.bitwise_left_shift)
    __rlshift__ = _reflected(division.bitwise_left_shift)
    __rshift__ = _operator(division.bitwise_right_shift)
    __rrshift__ = _reflected(division.bitwise_right_shift)
    __iadd__ = _operator(InPlace.add_)
    __isub__ = _operator(InPlace.sub_)
    __imul__ = _operator(InPlace.mul_)
    __itruediv__ = _operator(InPlace.div_)
    __ifloordiv__ = _operator(InPlace.floor_divide_)
    __imod__ = _operator(InPlace.remainder_)
    __ipow__ = _operator(InPlace.pow_)
    __iand__ = _operator(InPlace.bitwise_and_)
    __ior__ = _operator(InPlace.bitwise_or_)
    __ixor__ = _operator(InPlace.bitwise_xor_)
    __ilshift__ = _operator(InPlace.bitwise_left_shift_)
    __irshift__ = _operator(InPlace.bitwise_right_shift_)
    # Arithmetic
    add = arithmetic.add
    sub = subtract = arithmetic.sub
    mul = multiply = arithmetic.mul
    div = divide = division.div
    floor_divide = division.floor_divide
    fmod = division.fmod
    remainder = division.remainder
    true_divide = division.true_divide
    pow = arithmetic.pow
    matmul = matmul.matmul
    mm = products.mm
    bmm = products.bmm
    mv = products.mv
    dot = products.dot
    vdot = products.vdot
    inner = products.inner
    outer = products.outer
    ger = products.ger
    addmm = products.addmm
    addmv = products.addmv
    addr = products.addr
    addbmm = products.addbmm
    baddbmm = products.baddbmm
    cross = products.cross
    kron = products.kron
    cov = products.cov
    corrcoef = products.corrcoef
    maximum = arithmetic.maximum
    minimum = arithmetic.minimum
    neg = negative = arithmetic.neg
    square = arithmetic.square
    reciprocal = arithmetic.reciprocal
    # Functions of one value
    abs = absolute = unary.abs
    exp = unary.exp
    log = unary.log
    sqrt = unary.sqrt
    sin = unary.sin
    cos = unary.cos
    atan = arctan = unary.atan
    expm1 = unary.expm1
    log1p = unary.log1p
    erf = unary.erf
    floor = unary.floor
    ceil = unary.ceil
    trunc = fix = unary.trunc
    round = unary.round
    log2 = unary.log2
    log10 = unary.log10
    rsqrt = unary.rsqrt
    sigmoid = unary.sigmoid
    tanh = unary.tanh
    relu = unary.relu
    clamp = clip = unary.clamp
    sign = sgn = unary.sign
    acos = arccos = functions.acos
    acosh = arccosh = functions.acosh
    addcdiv = functions.addcdiv
    addcmul = functions.addcmul
    allclose = functions.allclose
    asin = arcsin = functions.asin
    asinh = arcsinh = functions.asinh
    atan2 = arctan2 = functions.atan2
    atanh = arctanh = functions.atanh
    clamp_max = functions.clamp_max
    clamp_min = functions.clamp_min
    copysign = functions.copysign
    heaviside = functions.heaviside
    cosh = functions.cosh
    deg2rad = functions.deg2rad
    equal = functions.equal
    erfinv = functions.erfinv
    exp2 = functions.exp2
    float_power = functions.float_power
    fmax = functions.fmax
    fmin = functions.fmin
    frac = functions.frac
    hypot = functions.hypot
    isclose = functions.isclose
    isneginf = functions.isneginf
    isposinf = functions.isposinf
    lerp = functions.lerp
    logaddexp = functions.logaddexp
    logaddexp2 = functions.logaddexp2
    logit = functions.logit
    nan_to_num = functions.nan_to_num
    positive = functions.positive
    rad2deg = functions.rad2deg
    signbit = functions.signbit
    sinc = functions.sinc
    sinh = functions.sinh
    tan = functions.tan
    xlogy = functions.xlogy
    # Comparisons, logic, selection
    eq = compare.eq
    ne = not_equal = compare.ne
    lt = less = compare.lt
    le = less_equal = compare.le
    gt = greater = compare.gt
    ge = greater_equal = compare.ge
    isnan = compare.isnan
    isinf = compare.isinf
    isfinite = compare.isfinite
    bitwise_and = compare.bitwise_and
    bitwise_or = compare.bitwise_or
    bitwise_xor = compare.bitwise_xor
    bitwise_not = compare.bitwise_not
    bitwise_left_shift = division.bitwise_left_shift
    bitwise_right_shift = division.bitwise_right_shift
    logical_and = compare.logical_and
    logical_or = compare.logical_or
    logical_xor = compare.logical_xor
    logical_not = compare.logical_not
    where = _where
    uniform_ = random.uniform_
    normal_ = random.normal_
    bernoulli_ = random.bernoulli_
    exponential_ = random.exponential_
    cauchy_ = random.cauchy_
    geometric_ = random.geometric_
    log_normal_ = random.log_normal_
    random_ = random.random_
    # New tensors
    new = creation.new
    new_empty = creation.new_empty
    new_zeros = creation.new_zeros
    new_ones = creation.new_ones
    new_full = creation.new_full
    new_tensor = creation.new_from_data
    bernoulli = random.bernoulli
    multinomial = random.multinomial
    # Copies and conversions
    to = cast.to
    float = cast.float
    double = cast.double
    long = cast.long
    int = cast.int
    short = cast.short
    char = cast.char
    byte = cast.byte
    bool = cast.bool
    half = cast.half
    bfloat16 = cast.bfloat16
    type = cast.type
    cuda = cast.cuda
    cpu = cast.cpu
    pin_memory = cast.pin_memory
    is_pinned = cast.is_pinned
    type_as = cast.type_as
    clone = cast.clone
    contiguous = cast.contiguous
    is_contiguous = cast.is_contiguous
    # Reductions
    sum = reduce.sum
    sum_to_size = reduce.sum_to_size
    mean = reduce.mean
    var = reduce.var
    std = reduce.std
    count_nonzero = reduce.count_nonzero
    norm = vector_norm.norm
    dist = vector_norm.dist
    renorm = vector_norm.renorm
    amax = extrema.amax
    amin = extrema.amin
    aminmax = extrema.aminmax
    max = extrema.max
    min = extrema.min
    argmax = extrema.argmax
    argmin = extrema.argmin
    all = extrema.all
    any = extrema.any
    prod = reduce.prod
    cumsum = reduce.cumsum
    cumprod = scan.cumprod
    cummax = scan.cummax
    cummin = scan.cummin
    logcumsumexp = scan.logcumsumexp
    diff = scan.diff
    nansum = search.nansum
    nanmean = search.nanmean
    quantile = search.quantile
    nanquantile = search.nanquantile
    histc = search.histc
    histogram = search.histogram
    bincount = search.bincount
    logsumexp = reduce.logsumexp
    softmax = softmaxes.softmax
    sort = sorting.sort
    argsort = sorting.argsort
    msort = sorting.msort
    mode = search.mode
    topk = sorting.topk
    kthvalue = sorting.kthvalue
    median = sorting.median
    nanmedian = sorting.nanmedian
    log_softmax = softmaxes.log_softmax
    # Shape
    reshape = shapes.reshape
    view = shapes.view
    flatten = shapes.flatten
    unflatten = shapes.unflatten
    squeeze = shapes.squeeze
    unsqueeze = shapes.unsqueeze
    permute = shapes.permute
    transpose = swapdims = shapes.transpose
    t = shapes.t
    is_cpu: builtins.bool = property(access.is_host)  # type: ignore[assignment]
    is_sparse: builtins.bool = property(access.never)  # type: ignore[assignment]
    is_quantized: builtins.bool = property(access.never)  # type: ignore[assignment]
    is_meta: builtins.bool = property(access.never)  # type: ignore[assignment]
    is_cuda: builtins.bool = property(_is_cuda)  # type: ignore[assignment]
    T: Tensor = property(shapes.reversed_axes)  # type: ignore[assignment]
    mT: Tensor = property(shapes.matrix_transpose)  # type: ignore[assignment]
    expand = shapes.expand
    expand_as = shapes.expand_as
    broadcast_to = shapes.broadcast_to
    reshape_as = view_as = rearrange.view_as
    flip = rearrange.flip
    fliplr = rearrange.fliplr
    flipud = rearrange.flipud
    roll = rearrange.roll
    rot90 = rearrange.rot90
    repeat = rearrange.repeat
    repeat_interleave = rearrange.repeat_interleave
    tile = rearrange.tile
    swapaxes = rearrange.swapaxes
    movedim = moveaxis = rearrange.movedim
    ravel = rearrange.ravel
    unfold = rearrange.unfold
    as_strided = parts.as_strided
    as_strided_scatter = parts.as_strided_scatter
    diagonal_scatter = parts.diagonal_scatter
    select_scatter = parts.select_scatter
    slice_scatter = parts.slice_scatter
    diagonal = rearrange.diagonal
    diag = rearrange.diag
    diag_embed = rearrange.diag_embed
    diagflat = rearrange.diagflat
    trace = rearrange.trace
    tensor_split = rearrange.tensor_split
    hsplit = rearrange.hsplit
    vsplit = rearrange.vsplit
    dsplit = rearrange.dsplit
    H: Tensor = property(shapes.matrix_adjoint)  # type: ignore[assignment]
    mH: Tensor = property(shapes.matrix_transpose)  # type: ignore[assignment]
    split = split_with_sizes = join.split
    chunk = join.chunk
    unbind = join.unbind
    # Indexing
    __getitem__ = indexing.get_item
    __setitem__ = indexing.set_item
    index_put = indexing.index_put
    select = selection.select
    narrow = selection.narrow
    index_select = selection.index_select
    gather = selection.gather
    masked_fill = selection.masked_fill
    scatter = scatters.scatter
    scatter_add = scatters.scatter_add
    scatter_reduce = scatters.scatter_reduce
    index_add = scatters.index_add
    index_copy = scatters.index_copy
    index_reduce = scatters.index_reduce
    index_fill = scatters.index_fill
    masked_scatter = scatters.masked_scatter
    masked_select = scatters.masked_select
    put = scatters.put
    take = scatters.take
    take_along_dim = scatters.take_along_dim
    nonzero = search.nonzero
    argwhere = search.argwhere
    unique = search.unique
    unique_consecutive = search.unique_consecutive
    tril = selection.tril
    triu = selection.triu
    # Facts and values
    __len__ = access.length
    __iter__ = access.iterate
    __contains__ = access.contains
    __bool__ = access.to_bool
    __float__ = access.to_float
    __int__ = access.to_int
    __index__ = access.to_index
    __array__ = access.to_array
    __array_wrap__ = access.from_array
    __format__ = access.format_with
    __repr__ = printing.to_text
    __deepcopy__ = access.deepcopy
    size = access.size
    stride = access.stride
    dim = ndimension = access.dim
    numel = nelement = access.numel
    storage_offset = access.storage_offset
    data_ptr = access.data_ptr
    get_device = access.get_device
    is_same_size = access.is_same_size
    is_floating_point = access.is_floating_point
    is_complex = access.is_complex
    conj = resolve_conj = access.conj
    real: Tensor = property(access.real)  # type: ignore[assignment]
    is_signed = access.is_signed
    is_nonzero = access.is_nonzero
    nbytes: builtins.int = property(access.nbytes)  # type: ignore[assignment]
    itemsize: builtins.int = property(access.element_size)  # type: ignore[assignment]
    element_size = access.element_size
    item = access.item
    tolist = access.tolist
    numpy = access.numpy
    apply_ = access.apply_
    map_ = access.map_
    map2_ = access.map2_
    # Other libraries
    __dlpack__ = exchange.to_dlpack
    __dlpack_device__ = exchange.dlpack_device
    __cuda_array_interface__ = property(exchange.cuda_array_interface)
    # Graph
    requires_grad_ = access.requires_grad_
    register_hook = register_hook
    register_post_accumulate_grad_hook = register_post_accumulate_grad_hook
    retain_grad = retain_grad
    retains_grad: builtins.bool = property(retains_grad)  # type: ignore[assignment]


for _name, _member in (vars(InPlace) | vars(Methods)).items():
    if callable(_member) or isinstance(_member, property):
        setattr(Tensor, _name, _member)
