"""The code in docs/ and README.md runs, and prints what it says there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import downslope as ds
from downslope import plots
from downslope.activations import ACTIVATIONS
from downslope.initializers import INITIALIZERS
from downslope.losses import LOSSES
from downslope.optimizers import OPTIMIZERS

ROOT = Path(__file__).parents[1]
PAGES = [path for path in sorted(ROOT.glob("docs/**/*.md")) if ">>>" in path.read_text()]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_page(path, tmp_path, monkeypatch):
    """The blocks of a page one after another, in one session."""
    monkeypatch.chdir(tmp_path)
    page, names = path.read_text(), {}
    report: list[str] = []
    for block in BLOCK.finditer(page):
        if ">>>" not in block[1]:
            continue  # an excerpt
        before = page.count("\n", 0, block.start(1))
        test = doctest.DocTestParser().get_doctest(block[1], names, path.name, str(path), before)
        doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append, clear_globs=False)
        names = test.globs
    assert not report, "".join(report)


def test_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_reference_has_every_public_name():
    pages = "".join(path.read_text() for path in ROOT.glob("docs/reference/*.md"))
    documented = set(re.findall(r"auto(?:class|function|module):: downslope\.([\w.]+)", pages))
    public = {*ds.__all__, *(f"plots.{name}" for name in plots.__all__)}
    assert public - documented == set(), "add these to docs/reference/"


def test_every_part_of_training_is_documented():
    """With its formula in the pages, and by its name in the docstring that lists it."""
    kinds = (ROOT / "docs/activations_and_losses.md").read_text()
    rules = (ROOT / "docs/optimizers.md").read_text()
    for names, listed in [
        (ACTIVATIONS, ds.Activation),
        (LOSSES, ds.Loss),
        (INITIALIZERS, ds.Dense),
    ]:
        for name in names:
            assert re.search(rf"^\| .*`{name}`.* \|", kinds, re.MULTILINE), name
            assert f"``{name}``" in listed.__doc__, name
    for name, rule in OPTIMIZERS.items():
        assert f"| `{rule.__name__}" in rules, name
        assert f'``"{name}"``' in ds.Network.fit.__doc__, name
    for name in set(ds.schedules.__all__) - {"Schedule", "from_dict"}:
        assert f"| `{name}(" in rules, name
