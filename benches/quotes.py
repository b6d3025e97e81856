"""What other documents quote of a report: between marks that name it, and nothing typed by hand."""

from __future__ import annotations

import re
from pathlib import Path

from benches.page import QUOTATIONS, Results

_QUOTATION = re.compile(
    r"(?P<begin><!-- quoted by benches\.report: (?P<name>[a-z ]+) -->\n)"
    r".*?"
    r"(?P<end><!-- end of the quotation -->)",
    re.DOTALL,
)


def renewed(path: Path, results: Results) -> str:
    """The document with its quotations made anew."""

    def quotation(found: re.Match[str]) -> str:
        return f"{found['begin']}{QUOTATIONS[found['name']](results)}\n{found['end']}"

    text, count = _QUOTATION.subn(quotation, path.read_text(encoding="utf-8"))
    if not count:
        raise ValueError(f"{path} has no quotation: see benches/quotes.py for its marks")
    return text
