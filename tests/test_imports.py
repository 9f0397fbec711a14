"""`import minigrad` is light: what is heavy or optional is imported when it is first used."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numba", "llvmlite", "torch", "torchvision", "hypothesis", "matplotlib", "PIL", "tqdm",
         "safetensors")  # fmt: skip


def imported_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_import_minigrad_imports_nothing_heavy() -> None:
    modules = imported_after("import minigrad")
    assert "minigrad.ops.conv" in modules
    assert not modules & set(HEAVY)


def test_importing_the_packages_a_user_names_imports_nothing_heavy() -> None:
    modules = imported_after(
        "import minigrad.nn, minigrad.nn.functional, minigrad.optim, minigrad.data"
    )
    assert not modules & set(HEAVY)


def test_the_oracle_imports_torch_only_when_it_runs() -> None:
    modules = imported_after("import minigrad.testing")
    assert "minigrad.testing.checks" in modules
    assert not modules & {"torch", "numba"}
