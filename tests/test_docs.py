"""The code in docs/ and README.md runs, and prints what it says there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import downslope as ds
from downslope import plots

ROOT = Path(__file__).parents[1]
PAGES = [path for path in sorted(ROOT.glob("docs/**/*.md")) if "```python" in path.read_text()]
# ```python ... ```, with the number of its first line
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT / "docs")))
def test_page(path, tmp_path, monkeypatch):
    """The blocks of a page one after another, in one session."""
    monkeypatch.chdir(tmp_path)
    page = path.read_text()
    # Everything but the blocks becomes empty lines, so that line numbers stay.
    kept, end = [], 0
    for block in BLOCK.finditer(page):
        kept.append("\n" * page.count("\n", end, block.start(1)))
        kept.append(block[1])
        end = block.end(1)
    examples = doctest.DocTestParser().get_doctest("".join(kept), {}, path.name, str(path), 0)
    assert examples.examples
    report: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(examples, out=report.append)
    assert not report, "".join(report)


def test_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert "History(epochs=" in capsys.readouterr().out


def test_the_reference_has_every_public_name():
    pages = "".join(path.read_text() for path in ROOT.glob("docs/reference/*.md"))
    documented = set(re.findall(r"auto(?:class|function):: downslope\.([\w.]+)", pages))
    public = {*ds.__all__, *(f"plots.{name}" for name in plots.__all__)}
    assert public - documented == set(), "add these to docs/reference/"
