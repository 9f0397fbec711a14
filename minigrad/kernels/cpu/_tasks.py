"""Parallel loops: the tasks of a kernel, shared among threads.

    @kernel
    def doubled(span, out, input):
        for i in elements(span, out.size):
            out[i] = 2 * input[i]

    doubled(out, input)

Called from Python, with the span that `kernel` puts in front of the arguments, the loop makes no
turn itself: `tasks` stores the call's own arguments, and calls the same function again for ranges
of tasks, each with a span that says which. Threads take ranges until none is left (_workers.py);
small work is done by one such call on the caller's thread. So there is one compilation of a kernel,
and an array's memory is not counted as used once more by every thread, because the calls inside
get arrays without an owner: a kernel neither returns nor keeps an array.

A kernel has one loop over tasks. What stands outside of it runs for every range, too: it must have
no effects, unless it is under `if whole(span)`, which holds in the outer call only: before the loop
nothing has begun, behind it everything is done.

Numba's own `parallel=True` does as much, but takes twice as long to compile, does not survive a
fork, and waits at a barrier for threads whose core another process has taken.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.cpython import rangeobj  # noqa: F401  lowers ranges
from numba.extending import intrinsic

from ...runtime.threads import BEGIN, END, LAUNCH, THREAD, THREADS

# Elements that are worth a launch; each may mean a few dozen instructions.
_WORTH_SHARING = 1 << 13

_word = ir.IntType(64)
_address = ir.IntType(8).as_pointer()
_LARGEST = ir.Constant(_word, 2**63 - 1)


def _constant(value):
    return ir.Constant(_word, value)


def _word_at(builder, span, index):
    """A pointer to one of the words that a span begins with."""
    words = builder.inttoptr(span, _word.as_pointer())
    return builder.gep(words, [_constant(index)])


def _load(builder, span, index):
    return builder.load(_word_at(builder, span, index))


@intrinsic
def thread(typing_context, span):
    """Which of MAX_THREADS threads runs this range of tasks."""

    def codegen(context, builder, signature, arguments):
        return _load(builder, arguments[0], THREAD)

    return types.int64(types.int64), codegen


@intrinsic
def whole(typing_context, span):
    """True in the call that comes from Python, false in those for a range of tasks."""

    def codegen(context, builder, signature, arguments):
        return builder.icmp_signed("<", _load(builder, arguments[0], BEGIN), _constant(0))

    return types.boolean(types.int64), codegen


@intrinsic
def tasks(typing_context, span, count):
    """The range of tasks that this call is for, of `count` in all; several are always shared."""

    def codegen(context, builder, signature, arguments):
        return _range_of_tasks(context, builder, *arguments, _constant(_WORTH_SHARING))

    return types.range_state64_type(types.int64, types.int64), codegen


@intrinsic
def light_tasks(typing_context, span, count, elements):
    """As `tasks`, each of so many elements: little work in all stays on the caller's thread, and
    any work with 0."""

    def codegen(context, builder, signature, arguments):
        return _range_of_tasks(context, builder, *arguments)

    return types.range_state64_type(types.int64, types.int64, types.int64), codegen


@intrinsic
def elements(typing_context, span, count):
    """As `light_tasks`, of one element each: indices without a sign.

    Numba asks of an index with a sign whether it is negative. LLVM, which cannot tell where a range
    begins, leaves the question in the loop and gathers what it could load as one vector.
    """

    def codegen(context, builder, signature, arguments):
        return _range_of_tasks(context, builder, *arguments, _constant(1))

    return types.unsigned_range_state64_type(types.int64, types.int64), codegen


def _range_of_tasks(context, builder, span, count, elements):
    body = builder.function
    if len(body.args) < 3 or body.args[2].name != "arg.span":
        raise TypeError(f"the first parameter of a kernel is its span: {body.name}")
    # Copied into the ranges' calls and into the wrapper for Python, it would be compiled twice.
    body.attributes.add("noinline")
    stored = cgutils.alloca_once(builder, ir.LiteralStructType([a.type for a in body.args[3:]]))
    outer = builder.icmp_signed("<", _load(builder, span, BEGIN), _constant(0))
    with builder.if_then(outer, likely=False):
        for place, argument in enumerate(body.args[3:]):
            # An array's owner is left out.
            owner = argument.name.endswith((".0", ".1")) and argument.type == _address
            value = ir.Constant(argument.type, None) if owner else argument
            builder.store(value, cgutils.gep_inbounds(builder, stored, 0, place))
        environment = builder.bitcast(stored, _address)
        call = _range_call(builder.module, body, stored.type)
        shared = cgutils.alloca_once_value(builder, _constant(0))
        several = builder.icmp_signed(">", _load(builder, span, THREADS), _constant(1))
        several = builder.and_(several, builder.icmp_signed(">", count, _constant(1)))
        work = builder.mul(count, elements)
        worth = builder.icmp_signed(">=", work, _constant(_WORTH_SHARING))
        with builder.if_then(builder.and_(several, worth)):
            launch_type = ir.FunctionType(_word, [_word] * 4)
            launch = builder.inttoptr(_load(builder, span, LAUNCH), launch_type.as_pointer())
            given = [builder.ptrtoint(value, _word) for value in (call, environment)]
            builder.store(builder.call(launch, [span, *given, count]), shared)
        alone = builder.icmp_signed("==", builder.load(shared), _constant(0))
        with builder.if_then(alone):
            builder.call(call, [_constant(0), count, _constant(0), environment])
    # The same words with a sign and without.
    state = cgutils.create_struct_proxy(types.range_state64_type)(context, builder)
    # That they are not negative lets LLVM count the turns.
    begin = builder.and_(_load(builder, span, BEGIN), _LARGEST)
    end = builder.and_(_load(builder, span, END), _LARGEST)
    state.start = builder.select(outer, _constant(0), begin)
    state.stop = builder.select(outer, _constant(0), end)
    state.step = _constant(1)
    return state._getvalue()


def _range_call(module, body, stored_type):
    """void call(begin, end, thread, stored arguments): the body, for a range of tasks."""
    call_type = ir.FunctionType(ir.VoidType(), [_word, _word, _word, _address])
    call = ir.Function(module, call_type, f"{body.name}.range")
    call.linkage = "internal"
    builder = ir.IRBuilder(call.append_basic_block("entry"))
    begin, end, thread, environment = call.args
    span = builder.alloca(ir.ArrayType(_word, 3))
    for index, value in ((BEGIN, begin), (END, end), (THREAD, thread)):
        builder.store(value, builder.gep(span, [_constant(0), _constant(index)]))
    stored = builder.bitcast(environment, stored_type)
    arguments = [
        builder.load(cgutils.gep_inbounds(builder, stored, 0, place))
        for place in range(len(body.args) - 3)
    ]
    # Numba's functions return through their first argument, and tell of exceptions, which kernels
    # do not raise, through their second.
    places = [builder.alloca(argument.type.pointee) for argument in body.args[:2]]
    builder.call(body, [*places, builder.ptrtoint(span, _word), *arguments])
    builder.ret_void()
    return call


@intrinsic
def lower_to(typing_context, array, value):
    """array[0] = min(array[0], value), whatever other threads do to it meanwhile."""
    if not isinstance(array, types.Array) or not isinstance(array.dtype, types.Integer):
        return None
    signature = types.void(array, array.dtype)

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        builder.atomic_rmw("min", data, arguments[1], "monotonic")
        return context.get_dummy_value()

    return signature, codegen
