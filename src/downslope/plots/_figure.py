"""What the pictures have in common: new axes, colours, marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The palette of Okabe and Ito, whose colours people with any colour vision can tell apart; dashes
# and markers carry the same distinctions without colour.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE, GREY = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#777777",
)

#: Colour, dashes and marker of the first, second, ... of several lines.
SERIES = (
    (BLUE, "-", "o"),
    (RED, "--", "s"),
    (GREEN, "-.", "^"),
    (PURPLE, ":", "D"),
    (ORANGE, "-", "v"),
    (BLACK, "--", "P"),
)


def pyplot() -> Any:
    """matplotlib's pyplot, or an error that says how to install it."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            'plotting needs matplotlib: python -m pip install "downslope[plots]"'
        ) from error
    return pyplot


def new_axes(ax: Axes | None, **options: Any) -> Axes:
    """The axes given, or those of a new figure."""
    return pyplot().subplots(layout="constrained", **options)[1] if ax is None else ax


def new_row(count: int, columns: int | None = None, **options: Any) -> Any:
    """The axes of a new figure with `count` panels, as an array."""
    columns = count if columns is None else min(count, columns)
    rows = -(-count // columns)
    figure, axes = pyplot().subplots(
        rows,
        columns,
        figsize=(3.4 * columns, 3.2 * rows),
        layout="constrained",
        squeeze=False,
        **options,
    )
    for unused in axes.flat[count:]:
        figure.delaxes(unused)
    return axes.reshape(-1)[:count]


def heights(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Levels of contour lines, closer to each other near the least value; the values are not all
    the same."""
    least, greatest = float(values.min()), float(values.max())
    return least + (greatest - least) * np.linspace(0, 1, count + 1) ** 2


def mark_ends(ax: Axes, start: tuple[float, ...], end: tuple[float, ...], colour: str) -> None:
    """An open circle where a path begins, a full one where it ends."""
    style: dict[str, Any] = {"color": colour, "markersize": 7, "linestyle": "none", "zorder": 5}
    ax.plot(*([x] for x in start), marker="o", markerfacecolor="white", **style)
    ax.plot(*([x] for x in end), marker="o", **style)
