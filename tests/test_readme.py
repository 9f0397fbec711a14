"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_of_the_readme_runs(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_readme_has_its_two_commands_and_its_pictures() -> None:
    assert len(BLOCKS) == 3
    assert len(re.findall(r"^pip install .* && python .*$", README, flags=re.MULTILINE)) == 2
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", README):
        assert (Path(__file__).resolve().parents[1] / picture).is_file(), picture
