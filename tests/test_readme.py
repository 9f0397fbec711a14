"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_of_the_readme_runs(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_readme_has_its_two_commands_and_its_pictures() -> None:
    assert len(BLOCKS) == 3
    assert len(re.findall(r"^pip install .* && python .*$", README, flags=re.MULTILINE)) == 2
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file(), picture


def _lines(name: str) -> int:
    """Of a file's or a folder's Python, by its name in the README."""
    place = next(p for p in (ROOT / name, ROOT / "minigrad" / name) if p.exists())
    files = [place] if place.is_file() else place.rglob("*.py")
    return sum(len(file.read_text().splitlines()) for file in files)


def test_the_readme_counts_lines_right_to_a_tenth() -> None:
    rows = re.findall(r"^\| (`.*?) \| .* \| ([\d,]+) \|$", README, flags=re.MULTILINE)
    assert len(rows) == 10
    for names, claimed in rows:
        counted = sum(map(_lines, re.findall(r"`(.*?)`", names)))
        assert int(claimed.replace(",", "")) == pytest.approx(counted, rel=0.1), names


def test_the_script_in_the_page_on_distributed_training_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "distributed.md").read_text(), flags=re.DOTALL
    )
    exec(compile(block, "distributed.md", "exec"), {"__name__": "page"})
    assert (tmp_path / "model.pth").is_file()
