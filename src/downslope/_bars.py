"""Progress bars of other libraries, for the callback `Progress`."""

from __future__ import annotations

import sys
from typing import Any


class RichBar:
    """Epochs as a live bar of rich."""

    def __init__(self, console: Any, epoch: int, target: int) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=target, completed=epoch)

    def advance(self, epoch: int, text: str) -> None:
        self._bar.update(self._task, completed=epoch, description=text)

    def close(self) -> None:
        self._bar.stop()


class TqdmBar:
    """Epochs as a bar of tqdm, a widget in notebooks that have them."""

    def __init__(self, epoch: int, target: int) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=target, initial=epoch, desc="epoch", unit="epoch", file=sys.stderr)

    def advance(self, epoch: int, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(epoch - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def new_bar(style: str, epoch: int, target: int) -> RichBar | TqdmBar | None:
    """The bar of a style; None: lines."""
    if style in ("auto", "rich"):
        try:
            from rich.console import Console
        except ImportError as error:
            if style == "rich":
                raise _missing("rich") from error
        else:
            console = Console(stderr=True)
            live = style == "rich" or console.is_terminal or console.is_jupyter
            return RichBar(console, epoch, target) if live else None
    if style == "tqdm" or (style == "auto" and sys.stderr.isatty()):
        try:
            return TqdmBar(epoch, target)
        except ImportError as error:
            if style == "tqdm":
                raise _missing("tqdm") from error
    return None


def _missing(package: str) -> ImportError:
    return ImportError(f"this progress bar needs {package}: python -m pip install {package}")
