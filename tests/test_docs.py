"""The code in docs/ and README.md runs, and prints what it says there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

import downslope as ds
from downslope import plots

ROOT = Path(__file__).parents[1]
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    if "```python" in path.read_text()
]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_page(path, tmp_path, monkeypatch):
    """The blocks of a page one after another, in one session; those with >>> are doctests."""
    monkeypatch.chdir(tmp_path)
    page, names = path.read_text(), {}
    report: list[str] = []
    for block in BLOCK.finditer(page):
        names = run(block[1], names, path, page.count("\n", 0, block.start(1)), report)
    assert not report, "".join(report)


def run(
    code: str, names: dict[str, Any], path: Path, lines_before: int, report: list[str]
) -> dict[str, Any]:
    """Run a block with the names that those before it defined; returns them and its own."""
    if ">>>" not in code:
        try:
            exec(compile("\n" * lines_before + code, str(path), "exec"), names)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("downslope"):
                raise
            pytest.skip(str(error))  # a page on an optional library
        return names
    test = doctest.DocTestParser().get_doctest(code, names, path.name, str(path), lines_before)
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append, clear_globs=False)
    return test.globs


def test_the_reference_has_every_public_name():
    pages = "".join(path.read_text() for path in ROOT.glob("docs/reference/*.md"))
    documented = set(re.findall(r"auto(?:class|function):: downslope\.([\w.]+)", pages))
    public = {*ds.__all__, *(f"plots.{name}" for name in plots.__all__)}
    assert public - documented == set(), "add these to docs/reference/"
