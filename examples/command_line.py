"""What the command lines of the examples share.

It imports minigrad where it needs it, as Ctrl-C is to be met from the start.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Of what nobody caught: Ctrl-C while minigrad is imported has no traceback either."""
    if issubclass(kind, KeyboardInterrupt):
        print("\nInterrupted.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _report


@contextmanager
def program() -> Iterator[None]:
    """Around a script's main: Ctrl-C, a full disk and files that cannot be read or written end it
    without a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except OSError as error:
        raise SystemExit(_sentence(error)) from None


@contextmanager
def plain_errors() -> Iterator[None]:
    """What is wrong with the input ends the program in one sentence, without a traceback."""
    from minigrad.errors import MinigradError

    try:
        yield
    except (ValueError, OSError, MinigradError) as error:
        raise SystemExit(_sentence(error)) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def positive(text: str) -> int:
    """The type of an argument that is a count: an int from 1 on."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def counted(count: int, noun: str) -> str:
    """1 thread, 2 threads."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=positive, help="default: all cores")
    parser.add_argument(
        "--precision",
        choices=("highest", "high"),
        help="of float32 products (default: highest); see mg.set_float32_matmul_precision",
    )


def set_device(arguments: argparse.Namespace) -> None:
    """Check --device, apply --threads and --precision."""
    import minigrad as mg

    if arguments.device == "cuda" and (reason := mg.cuda.why_unavailable()):
        raise SystemExit(f"--device cuda: {reason}")
    if arguments.threads:
        mg.set_num_threads(arguments.threads)
    if arguments.precision:
        mg.set_float32_matmul_precision(arguments.precision)
