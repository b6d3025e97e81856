"""Networks for other compiled code: Cython, C, C++, without the GIL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from downslope import _engine, _threads
from downslope._own_loss import LossFunction
from downslope._validate import as_count
from downslope.losses import Loss
from downslope.training import Trainer


def get_include() -> str:
    """The folder of the C header that `Session` goes with, for a compiler's ``include_dirs``.

    Examples
    --------
    >>> import downslope as ds, os
    >>> os.listdir(ds.get_include())
    ['downslope_session.h']
    """
    return str(Path(__file__).with_name("include"))


class Session:
    """A trainer's network for calls from compiled code, with all memory made beforehand.

    Parameters
    ----------
    trainer : Trainer
        Its network, loss and optimiser; its steps are counted.
    rows : int
        The most rows of one call.
    labels : bool, default False
        Whether `step` takes class labels (int64) instead of dense targets.
    threads : int, default 1
        At most so many in a call.

    Attributes
    ----------
    capsule : PyCapsule
        Of a ``const ds_session *``: the functions and what they need, see ``downslope_session.h``
        in `get_include`, or ``from downslope.session cimport ds_session``.  It keeps the session.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be, the loss is a function or takes no labels, the
        learning rate follows a schedule, or the trainer has a communicator.
    RuntimeError
        If another thread is training the network.

    Examples
    --------
    >>> import downslope as ds
    >>> trainer = ds.Trainer(ds.Network([4, 8, 2], seed=0), optimizer="adam")
    >>> ds.Session(trainer, rows=32).capsule
    <capsule object "downslope.session.1" at ...>
    """

    def __init__(
        self, trainer: Trainer, rows: int, *, labels: bool = False, threads: int = 1
    ) -> None:
        if not isinstance(trainer, Trainer):
            raise TypeError(f"trainer must be a downslope.Trainer; got {type(trainer).__name__}")
        loss: Loss | LossFunction = trainer.loss
        if not isinstance(loss, Loss):
            raise TypeError("a session needs a loss by its name; a function needs Python")
        if labels and loss.kind.label_kernel is None:
            raise ValueError(f"loss {loss.name!r} takes no labels; drop labels=True")
        trainer._refuse_lbfgs("a session")
        if trainer._stepper.rule.schedule is not None:
            raise ValueError(
                "a session takes steps at one learning rate; give the optimizer a number, and set "
                "trainer.learning_rate between calls"
            )
        if trainer._stepper.ranks is not None:
            raise ValueError(
                "a session's steps are those of one process; make it of a trainer without a "
                "communicator, or call Trainer.step"
            )
        network = trainer.network
        rows, threads = as_count("rows", rows), _threads.resolve(threads)
        self.trainer = trainer
        with network.exclusive:
            trainer._stepper.descent.keep_gradients(network.gradients)
            self.capsule: Any = _engine.Session(
                trainer._stepper.descent,
                trainer._stepper.losses[labels],
                rows,
                network.outputs // loss.kind.outputs_per_target,
                labels,
                threads,
            ).capsule()
