"""Networks to test with."""

from __future__ import annotations

import downslope as ds


def random_network(rng, widths=(4, 6, 5, 3), **options):
    """A network with random weights and, unlike a new one's, random biases."""
    network = ds.Network(list(widths), **{"seed": 0, "activation": "tanh", **options})
    network.parameters[:] = rng.normal(scale=0.5, size=network.parameters.size)
    return network
