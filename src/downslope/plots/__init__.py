"""Pictures of descent, of networks and of training runs.  Needs matplotlib (extra ``plots``).

Each function draws on axes that it is given, or on a new figure, and returns the axes, to be
changed further or saved: ``axes.figure.savefig("picture.png")``.  matplotlib is imported when a
picture is drawn; no display is needed.
"""

from downslope.plots.descent import (
    plot_contour,
    plot_descent,
    plot_learning_rates,
    plot_surface,
)
from downslope.plots.learning import (
    animate_boundary,
    plot_boundaries,
    plot_boundary,
    plot_history,
    plot_learning_rate_search,
)
from downslope.plots.networks import (
    plot_activations,
    plot_loss_landscape,
    plot_network,
    plot_weight,
)

__all__ = [
    "animate_boundary",
    "plot_activations",
    "plot_boundaries",
    "plot_boundary",
    "plot_contour",
    "plot_descent",
    "plot_history",
    "plot_learning_rate_search",
    "plot_learning_rates",
    "plot_loss_landscape",
    "plot_network",
    "plot_surface",
    "plot_weight",
]
