"""The scripts in examples/ run as they are."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted(Path(__file__).parents[1].joinpath("examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, capsys):
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


def test_worked_example_prints_the_known_numbers(capsys):
    [path] = [path for path in EXAMPLES if path.stem == "worked_example"]
    runpy.run_path(str(path))
    lines = capsys.readouterr().out.splitlines()
    assert "y1 = 0.633710, y2 = 0.648998" in lines
    assert "dE/dw5 = +0.072951997" in lines
    assert lines[-1] == "w5 after one step = 0.179270480"
