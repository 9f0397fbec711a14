"""Observer: who watches the engine sees tensors being used, changed and given gradients.

The engine itself keeps no record of a step. A recording of one (`minigrad.recording`) overrides
these methods; this base class, which stands where nobody watches, does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tensor import Tensor, Version


class Observer:
    """Of one thread. All methods but `use` and `change` are called before what they announce."""

    def use(self, args: Iterable[Any]) -> None:
        """An operation has computed with these; some may be no tensors."""

    def change(self, version: Version) -> None:
        """Memory was changed in place."""

    def call(self, module: Any) -> None:
        """A module of `minigrad.nn` is called."""

    def clear_grad(self, leaf: Tensor) -> None:
        """The leaf's gradient is replaced, whatever it is."""

    def read_grad(self, leaf: Tensor) -> None:
        """The leaf's gradient is read, or changed in place."""

    def accumulate(self, leaf: Tensor, grad: Tensor) -> bool:
        """`grad` is added to the leaf's gradient; True if the observer has done that."""
        return False

    # What else a step does on the host ----------------------------------------------------------

    def read_values(self, shape: tuple[int, ...]) -> None:
        """The host reads the values of a tensor of this shape in its own memory."""

    def take_values(self, shape: tuple[int, ...]) -> None:
        """An array of the host's becomes a tensor as it is."""

    def refuse(self, message: str) -> None:
        """Something happens that must not be part of a recorded step; says why."""

    def on_failure(self, save: Callable[[], Callable[[], None]]) -> None:
        """State of the host changes. save() notes it and returns what puts it back."""

    def valid_while(self, condition: Callable[[], Callable[[], bool]]) -> None:
        """State of the host has decided what was done; condition() notes it and returns what asks
        whether it is still the same."""

    def at_replay(self, refresh: Callable[[], None]) -> None:
        """Numbers of the host were used, which refresh() computes anew for the next step."""
