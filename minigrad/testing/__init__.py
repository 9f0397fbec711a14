"""The oracle: checks that compare an operation with torch, with itself and between backends.

`check` puts an operation of your own through everything that minigrad's are put through:

    import minigrad
    from minigrad.testing import OpSpec, check
    from minigrad.testing.strategies import case, floats, shapes

    class Square(minigrad.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return 2 * x * grad_output

    check(OpSpec("square", Square.apply, lambda torch, x: x * x, accepts_integers=True,
                 cases=shapes().flatmap(lambda shape: case(floats(shape, nan=True)))), examples=20)

The one place in the package that imports torch, and only inside functions. Needs the `test` extra.
"""

from .checks import CHECKS, Check, check, check_errors, run
from .spec import Case, ErrorCase, OpSpec

__all__ = ["CHECKS", "Case", "Check", "ErrorCase", "OpSpec", "check", "check_errors", "run"]
