"""Integers that are as narrow as those they come from: strided loops and division.

Numba computes with 64 bits, of which a GPU has 32 at a time; a division takes some 70 instructions.
Its `range` divides before the loop begins, to find the number of rounds. A `span` compares, as C
does. The host passes what fits in 32 bits as an int32, so the types of a launch choose the width.
"""

from __future__ import annotations

from typing import Any

from numba.cuda import cgutils, types
from numba.cuda.core.imputils import RefType, iternext_impl
from numba.cuda.extending import intrinsic, lower_builtin, models, register_model


class Span(types.SimpleIteratorType):
    """Numba's type of a span of int32 or int64."""

    def __init__(self, number: Any) -> None:
        super().__init__(f"Span({number})", number)


@register_model(Span)
class _SpanModel(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        number = kind.yield_type
        members = [("at", types.CPointer(number)), ("stop", number), ("step", number)]
        super().__init__(manager, kind, members)


def _width_of(number: Any) -> Any:
    return types.int32 if types.unliteral(number).bitwidth <= 32 else types.int64


@intrinsic
def span(typing_context, first, stop, step):
    """first, first + step, … below stop; of ints that are not negative. int32 if stop is at most
    that wide, else int64."""
    number = _width_of(stop)
    kind = Span(number)

    def generate(context, builder, signature, arguments):
        values = [
            context.cast(builder, value, given, number)
            for value, given in zip(arguments, signature.args, strict=True)
        ]
        made = context.make_helper(builder, kind)
        made.at = cgutils.alloca_once_value(builder, values[0])
        made.stop, made.step = values[1:]
        return made._getvalue()

    return kind(first, stop, step), generate


@intrinsic
def fit(typing_context, value, like):
    """An int as int32 if `like` is at most that wide, else as int64."""
    number = _width_of(like)

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[0], signature.args[0], number)

    return number(value, like), generate


@intrinsic
def quotient(typing_context, a, b):
    """a // b of ints, a not negative and b positive, as wide as a."""
    number = _width_of(a)

    def generate(context, builder, signature, arguments):
        values = [
            context.cast(builder, value, given, number)
            for value, given in zip(arguments, signature.args, strict=True)
        ]
        return builder.udiv(*values)

    return number(a, b), generate


@lower_builtin("iternext", Span)
@iternext_impl(RefType.UNTRACKED)
def _advance(context, builder, signature, arguments, result):
    state = context.make_helper(builder, signature.args[0], arguments[0])
    at = builder.load(state.at)
    # Unsigned: the number after the last may be beyond what a signed one holds.
    result.set_valid(builder.icmp_unsigned("<", at, state.stop))
    result.yield_(at)
    builder.store(builder.add(at, state.step), state.at)
