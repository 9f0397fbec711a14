"""What a type checker and an editor see of the package: its types are shipped with it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import minigrad as mg

# Each line with a comment is what mypy must say of it.
PROGRAM = """
import minigrad as mg
import minigrad.nn as nn
import minigrad.nn.functional as F

x = mg.ones(2, 3)
reveal_type(x)  # Revealed type is "Tensor"
reveal_type(x.sum())  # Revealed type is "Tensor"
reveal_type(x.sum(dim=0, keepdim=True))  # Revealed type is "Tensor"
reveal_type(x.reshape(3, 2).relu().t())  # Revealed type is "Tensor"
reveal_type(2 * x + 1)  # Revealed type is "Tensor"
reveal_type(x[0] @ x.T)  # Revealed type is "Tensor"
reveal_type(x == x)  # Revealed type is "Tensor"
reveal_type(len(x))  # Revealed type is "int"
reveal_type(x.stride())  # Revealed type is "tuple[int, ...]"
reveal_type(x.is_contiguous())  # Revealed type is "bool"
reveal_type(x.aminmax().min)  # Revealed type is "Tensor"
reveal_type([row for row in x])  # Revealed type is "list[Tensor]"
reveal_type(F.conv2d(x, x, padding="same"))  # Revealed type is "Tensor"
reveal_type(nn.Parameter(x).exp())  # Revealed type is "Tensor"
x += 1
x.sum(axis=0)  # Unexpected keyword argument "axis"
x.softmax("rows")  # Argument 1 has incompatible type "str"
x.summ()  # "Tensor" has no attribute "summ"
mg.clamp(x, minimum=0)  # Unexpected keyword argument "minimum"
"""


def test_methods_of_tensor_have_the_types_of_their_functions(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = Path(mg.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--ignore-missing-imports", str(program)],
        cwd=root, capture_output=True, text=True,
    )  # fmt: skip
    said: dict[int, str] = {}
    for line in result.stdout.splitlines():
        if found := re.match(r"\S*program\.py:(\d+): (?:error|note): (.*)", line):
            said.setdefault(int(found[1]), re.sub(r"minigrad\.[\w.]+\.|builtins\.", "", found[2]))
    assert said, result.stdout + result.stderr
    for number, line in enumerate(PROGRAM.splitlines(), 1):
        code, _, expected = line.partition("  # ")
        told = re.sub(r' (to|of|for) ".*?"(?= has| of|$)', "", said.pop(number, ""))
        assert told.startswith(expected) if expected else not told, f"{code!r}: {told}"
    assert not said


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(mg.__file__).parent / "py.typed").exists()
