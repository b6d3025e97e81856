"""Losses: names and what they ask of the network.  The arithmetic is in csrc/kernels/losses.c."""

from __future__ import annotations

from dataclasses import dataclass

from downslope._validate import choose


@dataclass(frozen=True)
class Loss:
    """A loss function: the mean over the rows of an error of each row.

    Attributes
    ----------
    name : str
    output : str or None
        The activation that the last layer must have; None for any.
    label_kernel : str or None
        The name of the kernel that takes integer labels, if the loss does.
    """

    name: str
    output: str | None = None
    label_kernel: str | None = None


#: The error of a row with outputs y (or net inputs of the last layer z) and targets t:
#: half_squared_error    sum over outputs of 0.5 (t - y)^2
#: mse                   mean over outputs of (t - y)^2
#: binary_cross_entropy  mean over outputs of -(t log y + (1 - t) log(1 - y)), y = sigmoid(z)
#: cross_entropy         -(sum over outputs of t log y), y = softmax(z); or -log y[t] for labels t
LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss("half_squared_error"),
        Loss("mse"),
        Loss("binary_cross_entropy", output="sigmoid"),
        Loss("cross_entropy", output="softmax", label_kernel="cross_entropy_labels"),
    )
}


def as_loss(loss: str | Loss) -> Loss:
    """A loss from its name, or as it is."""
    return LOSSES[choose("loss", loss.name if isinstance(loss, Loss) else loss, LOSSES)]
