"""Lines of arithmetic, and how they are written: aligned text, HTML, LaTeX.

A line is a name, a formula with the names of its terms, and the value; it is shown as

    net_h1 = w1 * x1 + w2 * x2 + b1
           = 0.1 * 0.95 + 0.15 * 0.06 + 0.05 = 0.154

Names are plain text: a letter with a number (w1) or with a layer and indices (W1[2,1]); net_,
delta_, step_ and new_ before another name; dE/dw1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

Term = tuple[str, float]


@dataclass(frozen=True)
class Line:
    """A quantity and how it comes about.

    Attributes
    ----------
    name : str
    value : float
    formula : str
        With ``{}`` for each term; empty where there is nothing to show but the value.
    terms : sequence of (name, value)
    """

    name: str
    value: float
    formula: str = ""
    terms: Sequence[Term] = ()

    @property
    def symbolic(self) -> str:
        """The formula with the names of its terms."""
        return self.formula.format(*(name for name, _ in self.terms))

    def numeric(self, digits: int) -> str:
        """The formula with the values of its terms."""
        if self.formula == "{}":
            return number(self.terms[0][1], digits)
        filled = self.formula.format(*(_in_formula(value, digits) for _, value in self.terms))
        return re.sub(r"\(\((-[^()]*)\)\)", r"(\1)", filled)  # f((-1)) is f(-1)


@dataclass(frozen=True)
class Section:
    """A title and the lines under it."""

    title: str
    lines: Sequence[Line]


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}"


def _in_formula(value: float, digits: int) -> str:
    text = number(value, digits)
    return f"({text})" if text.startswith("-") else text


# ---- Text ----


def as_text(sections: Sequence[Section], digits: int) -> str:
    """The sections one after another, the equals signs of each below each other."""
    return "\n\n".join(_section_text(section, digits) for section in sections)


def _section_text(section: Section, digits: int) -> str:
    width = max(len(line.name) for line in section.lines)
    rows = [section.title]
    for line in section.lines:
        value = number(line.value, digits)
        if not line.terms:
            constant = f"{line.formula} = " if line.formula not in ("", value) else ""
            rows.append(f"  {line.name:>{width}} = {constant}{value}")
            continue
        rows.append(f"  {line.name:>{width}} = {line.symbolic}")
        numeric = line.numeric(digits)
        ending = "" if numeric == value else f" = {value}"
        rows.append(f"  {'':{width}} = {numeric}{ending}")
    return "\n".join(rows)


# ---- HTML ----

_STYLE = """
.downslope-working { font: 14px/1.5 system-ui, sans-serif; }
.downslope-working summary { font-weight: 600; cursor: pointer; margin: .6em 0 .2em; }
.downslope-working div { overflow-x: auto; }
.downslope-working table { border-collapse: collapse; font-family: ui-monospace, monospace; }
.downslope-working td { border: 0; padding: .1em .8em .1em 0; text-align: left; white-space: nowrap;
  vertical-align: top; }
.downslope-working td:first-child { text-align: right; font-weight: 600; }
.downslope-working td:last-child { font-weight: 600; }
"""


def as_html(sections: Sequence[Section], digits: int) -> str:
    """A fragment with a table for each section, to be opened and closed."""
    parts = [f'<div class="downslope-working"><style>{_STYLE}</style>']
    for section in sections:
        rows = "\n".join(_row_html(line, digits) for line in section.lines)
        parts.append(
            f"<details open><summary>{_escaped(section.title)}</summary>"
            f"<div><table>\n{rows}\n</table></div></details>"
        )
    return "\n".join([*parts, "</div>"])


def _escaped(text: str) -> str:
    # html.escape, whose module loads all named characters when it is imported
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _row_html(line: Line, digits: int) -> str:
    numeric = line.numeric(digits) if line.terms else ""
    sides = [line.symbolic, numeric, number(line.value, digits)]
    cells = [line.name, *(f"= {side}" if side else "" for side in sides)]
    return "<tr>" + "".join(f"<td>{_escaped(cell)}</td>" for cell in cells) + "</tr>"


# ---- LaTeX ----


def as_latex(sections: Sequence[Section], digits: int) -> str:
    """An ``align*`` for each section, under its title; needs the package amsmath."""
    return "\n\n".join(_section_latex(section, digits) for section in sections)


def _section_latex(section: Section, digits: int) -> str:
    rows = " \\\\\n".join(_row_latex(line, digits) for line in section.lines)
    return (
        f"\\paragraph{{{_latex_text(section.title)}}}\n\\begin{{align*}}\n{rows}\n\\end{{align*}}"
    )


def _row_latex(line: Line, digits: int) -> str:
    parts = [_latex_name(line.name) + " &"]
    if line.formula:
        braced = _latex_formula(line.formula)
        parts.append(_filled(braced, [_latex_name(name) for name, _ in line.terms]))
        if line.terms:
            values = [_latex_number(_in_formula(value, digits)) for _, value in line.terms]
            parts.append(_filled(braced, values))
    value = _latex_number(number(line.value, digits))
    return " = ".join([*parts, value] if parts[-1] != value else parts)


def _filled(formula: str, terms: Sequence[str]) -> str:
    texts = iter(terms)
    return re.sub(r"\{\}", lambda _: next(texts), formula)


def _latex_formula(formula: str) -> str:
    formula = re.sub(r"([a-z][a-z_]+)(')?", _latex_function, formula)
    return formula.replace("*", r"\cdot")


def _latex_function(match: re.Match[str]) -> str:
    name = match[1].replace("_", r"\_")
    return rf"\operatorname{{{name}}}{match[2] or ''}"


def _latex_number(text: str) -> str:
    mantissa = re.sub(r"e([+-])0*(\d+)", r" \\cdot 10^{\1\2}", text)
    return mantissa.replace("{+", "{")


def _latex_name(name: str) -> str:
    if slash := re.fullmatch(r"d(.+)/d(.+)", name):
        above, below = (_latex_name(part) for part in slash.groups())
        return rf"\frac{{\partial {above}}}{{\partial {below}}}"
    if prefixed := re.fullmatch(r"(net|delta|step|new)_(.+)", name):
        prefix, rest = prefixed[1], _latex_name(prefixed[2])
        if prefix == "new":
            return rf"{rest}'"
        if prefix == "delta":
            return rf"\delta_{{{rest}}}"
        return rf"\mathrm{{{prefix}}}_{{{rest}}}"
    if indexed := re.fullmatch(r"([A-Za-z])(\d*)\[(.+)\]", name):
        layer = f"^{{({indexed[2]})}}" if indexed[2] else ""
        return f"{indexed[1]}{layer}_{{{indexed[3]}}}"
    if numbered := re.fullmatch(r"([A-Za-z])(\d+)", name):
        return f"{numbered[1]}_{{{numbered[2]}}}"
    return name if len(name) == 1 else rf"\text{{{_latex_text(name)}}}"


def _latex_text(text: str) -> str:
    return re.sub(r"([_#%&{}])", r"\\\1", text).replace("->", r"$\to$")
