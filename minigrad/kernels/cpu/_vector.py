"""SIMD vectors as values in kernels: `lanes` neighbouring elements of an array at a time.

LLVM vectorises a loop over channels only when it is long: with 16 channels it would run the scalar
remainder. A Vector is a register of a fixed number of lanes, so a kernel that keeps its running
maximum or sum in one is vector code for any number of channels, without a word about pointers
that might overlap. A kernel takes as many channels as it can 16 at a time, then 4, then 1, or the
last 16 once more in part, and so never touches memory outside the array.

`lanes` must be a literal int: a module's global or the int that a factory closes over.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model


class Vector(types.Type):
    """`lanes` elements of `dtype`."""

    def __init__(self, dtype, lanes):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


def _splat(builder, scalar, vector_type):
    undefined = ir.Constant(vector_type, ir.Undefined)
    zero = ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(undefined, scalar, zero)
    order = ir.Constant(ir.VectorType(ir.IntType(32), vector_type.count), [0] * vector_type.count)
    return builder.shuffle_vector(first, undefined, order)


def _pointer(context, builder, array_type, array, at, lanes):
    """To `lanes` elements of the array. Its alignment is that of one element."""
    data = context.make_array(array_type)(context, builder, array).data
    element = context.get_value_type(array_type.dtype)
    vector = ir.VectorType(element, lanes)
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


@intrinsic(prefer_literal=True)
def load(typing_context, lanes, array, at):
    """Elements at … at + lanes − 1 of a C-ordered array, counted from its first."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    vector = Vector(array.dtype, lanes.literal_value)

    def codegen(context, builder, signature, arguments):
        _, array_, at_ = arguments
        pointer = _pointer(context, builder, array, array_, at_, vector.lanes)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return vector(lanes, array, types.int64), codegen


@intrinsic
def store(typing_context, array, at, vector):
    """array[at … at + lanes − 1] = vector; float64 is rounded to a float32 array's type."""

    def codegen(context, builder, signature, arguments):
        array_, at_, value = arguments
        pointer = _pointer(context, builder, array, array_, at_, vector.lanes)
        if array.dtype == types.float32 and vector.dtype == types.float64:
            value = builder.fptrunc(value, ir.VectorType(ir.FloatType(), vector.lanes))
        builder.store(value, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), codegen


@intrinsic(prefer_literal=True)
def splat(typing_context, lanes, scalar):
    """The same value in every lane."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    dtype = types.unliteral(scalar)
    vector = Vector(dtype, lanes.literal_value)

    def codegen(context, builder, signature, arguments):
        return _splat(builder, arguments[1], context.get_value_type(vector))

    return vector(lanes, dtype), codegen


@intrinsic
def widen(typing_context, vector):
    """The same values in float64."""
    wide = Vector(types.float64, vector.lanes)

    def codegen(context, builder, signature, arguments):
        if vector == wide:
            return arguments[0]
        return builder.fpext(arguments[0], context.get_value_type(wide))

    return wide(vector), codegen


@intrinsic
def add(typing_context, left, right):
    def codegen(context, builder, signature, arguments):
        return builder.fadd(*arguments)

    return left(left, right), codegen


@intrinsic
def subtract(typing_context, left, right):
    def codegen(context, builder, signature, arguments):
        return builder.fsub(*arguments)

    return left(left, right), codegen


@intrinsic
def multiply(typing_context, left, right):
    def codegen(context, builder, signature, arguments):
        return builder.fmul(*arguments)

    return left(left, right), codegen


@intrinsic
def multiply_add(typing_context, left, right, addend):
    """left · right + addend, rounded once where the machine can."""

    def codegen(context, builder, signature, arguments):
        left_, right_, addend_ = arguments
        product = builder.fmul(left_, right_, flags=("contract",))
        return builder.fadd(product, addend_, flags=("contract",))

    return left(left, right, addend), codegen


@intrinsic
def scale(typing_context, vector, scalar):
    """vector · scalar."""

    def codegen(context, builder, signature, arguments):
        value, factor = arguments
        return builder.fmul(value, _splat(builder, factor, value.type))

    return vector(vector, vector.dtype), codegen


@intrinsic
def divide(typing_context, vector, scalar):
    """vector / scalar."""

    def codegen(context, builder, signature, arguments):
        value, divisor = arguments
        return builder.fdiv(value, _splat(builder, divisor, value.type))

    return vector(vector, vector.dtype), codegen


@intrinsic
def exceeds(typing_context, left, right):
    """Lanes where left > right or left is NaN."""
    mask = Vector(types.boolean, left.lanes)

    def codegen(context, builder, signature, arguments):
        left_, right_ = arguments
        greater = builder.fcmp_ordered(">", left_, right_)
        return builder.or_(greater, builder.fcmp_unordered("uno", left_, left_))

    return mask(left, right), codegen


@intrinsic
def equals(typing_context, vector, scalar):
    """Lanes of an integer vector that equal the scalar."""
    mask = Vector(types.boolean, vector.lanes)

    def codegen(context, builder, signature, arguments):
        value, wanted = arguments
        return builder.icmp_signed("==", value, _splat(builder, wanted, value.type))

    return mask(vector, vector.dtype), codegen


@intrinsic
def select(typing_context, mask, true, false):
    """`true` in the lanes of the mask, `false` elsewhere."""

    def codegen(context, builder, signature, arguments):
        return builder.select(*arguments)

    return true(mask, true, false), codegen


@intrinsic(prefer_literal=True)
def from_lane(typing_context, lanes, first):
    """The lanes first, first + 1, …"""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    mask = Vector(types.boolean, lanes.literal_value)

    def codegen(context, builder, signature, arguments):
        kind = ir.VectorType(ir.IntType(32), mask.lanes)
        first_ = _splat(builder, builder.trunc(arguments[1], kind.element), kind)
        return builder.icmp_signed(">=", ir.Constant(kind, list(range(mask.lanes))), first_)

    return mask(lanes, types.int64), codegen
