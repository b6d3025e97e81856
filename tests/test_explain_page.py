"""`downslope explain`, and its page in a real browser: numbers, keyboard, mouse, phone, no network.

The browser is Chromium (Debian's package of that name); the tests in it are skipped without it.
"""

from __future__ import annotations

import numpy as np
import pytest

import downslope as ds
from browser import CHROMIUM, Browser
from downslope.cli import main
from downslope.cli.explain import INPUT, TARGET, worked_example


def run(capsys, *argv, status=0):
    assert main([str(argument) for argument in argv]) == status
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_the_worked_example_is_printed(capsys):
    out, _ = run(capsys, "explain")
    explained = ds.explain(
        worked_example(), INPUT, TARGET, loss="half_squared_error", optimizer=ds.SGD(0.01)
    )
    assert out == f"{explained}\n"
    for number in ("0.5384241", "0.6337098", "0.1849794", "0.072952", "= 0.1792705"):
        assert number in out


def test_a_network_of_ones_own(capsys, tmp_path):
    net = ds.Network([3, 2], output="softmax", seed=1)
    net.save(tmp_path / "net.safetensors")
    argv = ["explain", "--weights", tmp_path / "net.safetensors", "--input=-1,0.5,2"]
    by_label, _ = run(capsys, *argv, "--target", "1", "--digits", "4")
    assert "Error: cross_entropy" in by_label
    by_row, _ = run(capsys, *argv, "--target", "0,1", "--digits", "4")
    assert by_row == by_label
    indexed, _ = run(capsys, *argv, "--target", "1", "--symbols", "indexed")
    assert "W1[3,2]" in indexed


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--weights", "net.safetensors"], "--weights needs --input and --target"),
        (["--input", "1,2,3"], "x must have shape"),
        (["--loss", "cross_entropy"], "softmax"),
        (["--weights", "none.safetensors", "--input", "1", "--target", "1"], "none.safetensors"),
    ],
)
def test_mistakes_are_told_in_one_line(capsys, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    _, err = run(capsys, "explain", *argv, status=2)
    assert err.startswith("downslope: error: ")
    assert words in err
    assert err.count("\n") == 1


def test_numbers_may_begin_with_a_minus(capsys):
    for first in ("-0.5", "-.5"):
        apart, _ = run(capsys, "explain", "--input", f"{first},1", "--target", "-1,0")
        joined, _ = run(capsys, "explain", f"--input={first},1", "--target=-1,0")
        assert apart == joined
    assert "-0.5" in apart


def test_input_that_is_no_numbers(capsys):
    with pytest.raises(SystemExit):
        main(["explain", "--input", "1,two"])
    assert "numbers separated by commas" in capsys.readouterr().err


def test_a_page_has_no_room_for_large_networks(capsys, tmp_path):
    ds.Network([20, 10, 1], seed=0).save(tmp_path / "net.safetensors")
    argv = ["--weights", tmp_path / "net.safetensors", "--input", ",".join("1" * 20)]
    argv += ["--target", "1", "--html", tmp_path / "page.html"]
    _, err = run(capsys, "explain", *argv, status=2)
    assert "room for 100 parameters" in err
    assert not (tmp_path / "page.html").exists()


# ---- The page ----


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page on the worked example, and one on a deeper network with class labels."""
    folder = tmp_path_factory.mktemp("pages")
    argv = ["explain", "--learning-rate", "0.5", "--epochs", "60", "--html"]
    assert main([*argv, str(folder / "article.html")]) == 0
    ds.Network([3, 4, 3, 2], output="softmax", seed=1).save(folder / "net.safetensors")
    own = ["--weights", str(folder / "net.safetensors"), "--input", "1,2,3", "--target", "1"]
    assert main([*argv, str(folder / "deep.html"), *own]) == 0
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser, pages):
    browser.problems.clear()
    browser.resize(1000, 900)
    browser.open(pages / "article.html")
    yield browser
    assert browser.problems == []


def text(browser, selector):
    return browser.evaluate(f"document.querySelector('{selector}').innerText")


def test_the_page_refers_to_nothing_else(pages):
    html = (pages / "article.html").read_text()
    for word in ("http:", "https:", " src=", "<link", "@import", "url("):
        assert word not in html.replace("http://www.w3.org/2000/svg", "")


def test_every_stage_by_the_keyboard(page):
    titles = [text(page, "#title")]
    for _ in range(5):
        page.press("ArrowRight")
        titles.append(text(page, "#title"))
    explained = ds.explain(worked_example(), INPUT, TARGET, loss="half_squared_error")
    expected = [section.title for section in explained.sections()]
    assert titles[:-1] == expected[:-1]
    assert titles[-1].startswith("Update: SGD")
    page.press("ArrowRight")
    assert text(page, "#title") == titles[-1]
    page.press("ArrowLeft")
    assert text(page, "#title") == titles[-2]
    # Tab to the button, and press it.
    page.press("Tab")
    page.press("Enter")
    assert text(page, "#title") == titles[-3]


def test_the_lines_are_those_of_the_text(page):
    explained = ds.explain(
        worked_example(), INPUT, TARGET, loss="half_squared_error", optimizer=ds.SGD(0.5)
    )
    for section in explained.sections():
        shown = page.evaluate("[...document.querySelectorAll('#lines dt')].map(e => e.innerText)")
        assert shown == [f"{line.name} = {line.symbolic}" for line in section.lines]
        numbers = page.evaluate("[...document.querySelectorAll('#lines b')].map(e => e.innerText)")
        values = [float(number.removeprefix("= ")) for number in numbers]
        np.testing.assert_allclose(values, [line.value for line in section.lines], rtol=1e-6)
        page.press("ArrowRight")


def test_the_slider_shows_the_epochs(page):
    net = worked_example()
    trainer = ds.Trainer(net, "half_squared_error", ds.SGD(0.5))
    assert text(page, "#total") == "E = 0.1849794"
    page.evaluate("document.getElementById('epoch').focus()")
    for _ in range(3):
        page.press("ArrowRight")
        trainer.step([INPUT], [TARGET])
    assert text(page, "#epochText") == "3"
    error = net.evaluate([INPUT], [TARGET], loss="half_squared_error")
    assert float(text(page, "#total").removeprefix("E = ")) == pytest.approx(error, rel=1e-6)
    assert text(page, "#title") == "Forward, hidden layer"  # the slider's keys are its own
    assert page.evaluate("data.positions.length") == 61


@pytest.mark.parametrize("name", ["w5", "y1", "b2"])
def test_numbers_where_one_points_or_tabs(page, name):
    assert "Point at" in text(page, "#numbers")
    page.point(f'[data-name="{name}"]' + (" ellipse" if name == "y1" else " .tag"))
    assert text(page, "#what") == f"Numbers of {name}"
    pointed = text(page, "#numbers")
    assert f"dE/d{name}" in pointed
    page.evaluate("chosen = null; draw()")
    page.evaluate(f"document.querySelector('[data-name=\"{name}\"]').focus()")
    assert text(page, "#numbers") == pointed


def test_every_unit_and_weight_can_be_tabbed_to(page):
    names = page.evaluate("[...document.querySelectorAll('g[tabindex]')].map(g => g.dataset.name)")
    expected = {*(f"w{i}" for i in range(1, 9)), "x1", "x2", "h1", "h2", "y1", "y2", "b1", "b2"}
    assert set(names) == expected
    page.press("Tab")  # the first button cannot go back and is skipped
    page.press("Tab")
    page.press("Tab")
    assert page.evaluate("document.activeElement.dataset.name") == names[0]
    page.press("ArrowRight")  # the diagram is drawn anew; the focus stays
    assert page.evaluate("document.activeElement.dataset.name") == names[0]


@pytest.mark.parametrize("name", ["article", "deep"])
def test_on_a_phone(page, pages, name, tmp_path):
    page.resize(390, 844)
    page.open(pages / f"{name}.html")
    for _ in range(page.evaluate("data.sections.length")):
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.press("ArrowRight")
    if name == "article":  # the letters of the diagram are as large on the screen as they should be
        assert (
            page.evaluate("document.querySelector('#diagram text').getBoundingClientRect().height")
            > 12
        )
    page.screenshot(tmp_path / "phone.png")
    assert (tmp_path / "phone.png").read_bytes().startswith(b"\x89PNG")
