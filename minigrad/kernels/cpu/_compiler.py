"""Compiler pipeline: what Numba does by default, less what only costs time here.

A helper is compiled into the kernels that call it and never runs by itself. So it gets no wrapper
for Python and no machine code of its own, which took a fifth of the time of a cold start.

Left out are the passes for what kernels do not use: `with` blocks, closures, exceptions,
`literally` and `literal_unroll`. And Python's garbage collector, which finds little among the
millions of objects that compilation makes, waits until a function is compiled.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite.binding.ffi import lib as llvm
from numba import _dynfunc
from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.registry import CPUDispatcher

from ...runtime.forks import Rank, hold_over_forks
from ...runtime.interrupts import Deferred
from ._cache import KernelCache

hold_over_forks(global_compiler_lock._lock, Rank.COMPILER)
hold_over_forks(llvm._lock._lock, Rank.LLVM)

_UNUSED = {
    untyped_passes.WithLifting,
    untyped_passes.InlineClosureLikes,
    untyped_passes.RewriteDynamicRaises,
    untyped_passes.MakeFunctionToJitFunction,
    untyped_passes.FindLiterallyCalls,
    untyped_passes.LiteralUnroll,
    untyped_passes.LiteralPropagationSubPipelinePass,
    typed_passes.DumpParforDiagnostics,
}


class _Linked(JITCodeLibrary):
    """Code that kernels link: optimised as theirs is, and never made machine code."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerHelper(typed_passes.NativeLowering):
    _name = "helper_lowering"

    def run_pass(self, state: Any) -> bool:
        context, state.flags = state.targetctx, state.flags.copy()
        state.flags.no_compile = True
        state.library = _Linked(context.codegen(), state.func_id.func_qualname)
        super().run_pass(state)
        lowered = state.cr
        # Numba finds the code that belongs to a call by such an object; this one has no address.
        function = _dynfunc.make_function(
            lowered.fndesc.lookup_module(), state.func_id.func_name, "", 0, lowered.env,
            (state.library,),
        )  # fmt: skip
        context.insert_user_function(function, lowered.fndesc, [state.library])
        state.cr = lowered._replace(cfunc=function)
        return True


@contextmanager
def _no_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Pipeline(CompilerBase):
    lowering: Any = typed_passes.NativeLowering

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("minigrad")
        for step, description in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            if step is typed_passes.NativeLowering:
                step = self.lowering
            if step not in _UNUSED:
                manager.add_pass(step, description)
        manager.finalize()
        return [manager]


class _HelperPipeline(_Pipeline):
    lowering = _LowerHelper


class Compiled(CPUDispatcher):
    """A function that Python calls: it is compiled for the types of its arguments, or found in
    the cache."""

    def __init__(self, function: Any, options: dict[str, Any], cache: KernelCache) -> None:
        options = {**options, "no_cfunc_wrapper": True}
        super().__init__(function, targetoptions=options, pipeline_class=_Pipeline)
        self._cache = cache

    def compile(self, sig: Any) -> Any:
        with Deferred(), _no_collection():
            try:
                return super().compile(sig)
            finally:
                self._cache.release()


class Linked(CPUDispatcher):
    """A function that others call, once they are compiled."""

    def __init__(self, function: Any, options: dict[str, Any]) -> None:
        options = {**options, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        super().__init__(function, targetoptions=options, pipeline_class=_HelperPipeline)

    def add_overload(self, cres: Any) -> None:
        self.overloads[cres.signature.args] = cres  # but not where a call from Python would find it

    def _compile_for_args(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self.py_func.__qualname__}: is for kernels to call, not for Python")
