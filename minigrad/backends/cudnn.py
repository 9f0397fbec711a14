"""torch.backends.cudnn's switches, for scripts that set them.

cuDNN is not used, so they change nothing; equal seeds give equal results in any case.
"""

from __future__ import annotations

benchmark = False
deterministic = False
enabled = True
allow_tf32 = True


def is_available() -> bool:
    """False: convolutions are minigrad's own."""
    return False


def version() -> None:
    """There is no cuDNN that had one."""
