"""What happens between epochs: stopping early, showing progress, the caller's own."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from downslope._validate import as_count, as_number, choose

if TYPE_CHECKING:
    from downslope.training import Trainer


class Callback:
    """Base of callbacks: override what you need.

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> class StopBelow(ds.Callback):
    ...     def on_epoch_end(self, trainer, epoch, logs):
    ...         return logs["loss"] < 0.01
    >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> net = ds.Network([1, 1], seed=0)
    >>> net.fit(x, x, optimizer=ds.SGD(0.5), epochs=100, callbacks=[StopBelow()]).epochs < 100
    True
    """

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first epoch; ``trainer.target_epoch`` is where the run would end."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Before an epoch; `epoch` counts from 0 over the trainer's life."""

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> bool | None:
        """After an epoch and its validation; returning True ends the run."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """At the end, also after an error or Ctrl-C (then ``trainer.interrupted`` is True)."""


class EarlyStopping(Callback):
    """Stop when a monitored loss has not improved for some epochs.

    Parameters
    ----------
    monitor : {"val_loss", "loss"}, default "val_loss"
        What to watch; less is better.
    patience : int, default 0
        So many epochs in a row without improvement stop the run, as in Keras; 0 is as 1.
    min_delta : float, default 0.0
        The least decrease that counts as an improvement.
    restore_best_weights : bool, default False
        At the end, put back the parameters of the best epoch (the last ones are lost).

    Attributes
    ----------
    best : float
        The best value seen.
    best_epoch : int or None
        The epoch it was seen in.
    stopped_epoch : int or None
        The epoch after which the run was stopped; None if it was not.

    Raises
    ------
    ValueError
        From `fit`, if "val_loss" is monitored and there is no validation data.

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> stop = ds.EarlyStopping("loss", patience=3, min_delta=1e-3)
    >>> history = ds.Network([1, 1], seed=0).fit(x, x, epochs=1000, callbacks=[stop])
    >>> stop.stopped_epoch < 999
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 0,
        min_delta: float = 0.0,
        restore_best_weights: bool = False,
    ) -> None:
        self.monitor = choose("monitor", monitor, ("val_loss", "loss"))
        self.patience = as_count("patience", patience, at_least=0)
        self.min_delta = as_number("min_delta", min_delta, at_least=0.0)
        self.restore_best_weights = restore_best_weights
        self._forget()

    def _forget(self) -> None:
        self.best = math.inf
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._best_parameters: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        _check_monitored(self, trainer)
        self._forget()

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> bool | None:
        value = logs[self.monitor]
        if self.best_epoch is None or value < self.best - self.min_delta:
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self._keep(trainer.network.parameters)
        elif epoch - self.best_epoch >= self.patience:
            self.stopped_epoch = epoch
            return True
        return None

    def _keep(self, parameters: Any) -> None:
        if self._best_parameters is None:
            self._best_parameters = np.empty_like(parameters)
        self._best_parameters[...] = parameters

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._best_parameters is not None and not trainer.interrupted:
            trainer.network.parameters[...] = self._best_parameters
        self._best_parameters = None


class ReduceLROnPlateau(Callback):
    """Lower the learning rate when a monitored loss has not improved for some epochs.

    Parameters
    ----------
    monitor : {"val_loss", "loss"}, default "val_loss"
        What to watch; less is better.
    factor : float, default 0.1
        What the learning rate is multiplied by, between 0 and 1.
    patience : int, default 10
        So many epochs in a row without improvement lower the rate, as in Keras; 0 is as 1.
    min_delta : float, default 1e-4
        The least decrease that counts as an improvement.
    cooldown : int, default 0
        So many epochs after a reduction are not counted.
    min_learning_rate : float, default 0.0
        It gets no lower.

    Raises
    ------
    ValueError
        From `fit`, if "val_loss" is monitored and there is no validation data, or if the
        optimiser's learning rate follows a schedule.

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> trainer = ds.Trainer(ds.Network([1, 1], seed=0), optimizer=ds.SGD(0.5))
    >>> slower = ds.ReduceLROnPlateau("loss", patience=3)
    >>> history = trainer.fit(x, x, epochs=50, callbacks=[slower])
    >>> trainer.learning_rate < 0.5
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_learning_rate: float = 0.0,
    ) -> None:
        self.monitor = choose("monitor", monitor, ("val_loss", "loss"))
        self.factor = as_number("factor", factor, above=0.0, below=1.0)
        self.patience = as_count("patience", patience, at_least=0)
        self.min_delta = as_number("min_delta", min_delta, at_least=0.0)
        self.cooldown = as_count("cooldown", cooldown, at_least=0)
        self.min_learning_rate = as_number("min_learning_rate", min_learning_rate, at_least=0.0)
        self._forget()

    def _forget(self) -> None:
        self._best, self._waited, self._resting = math.inf, 0, 0

    def on_fit_begin(self, trainer: Trainer) -> None:
        _check_monitored(self, trainer)
        if getattr(trainer.optimizer, "schedule", None) is not None:
            raise ValueError(
                "ReduceLROnPlateau contradicts the schedule of the optimizer's learning rate; "
                "drop one of them"
            )
        if not hasattr(trainer.optimizer, "learning_rate"):
            raise ValueError(f"{trainer.optimizer!r} has no learning rate to lower")
        self._forget()

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        value, rested = logs[self.monitor], self._resting == 0
        self._resting = max(0, self._resting - 1)
        if value < self._best - self.min_delta:
            self._best, self._waited = value, 0
        elif rested:
            self._waited += 1
            if self._waited >= self.patience:
                lower = max(self.factor * trainer.learning_rate, self.min_learning_rate)
                trainer.learning_rate = min(lower, trainer.learning_rate)
                self._waited, self._resting = 0, self.cooldown


class Progress(Callback):
    """Show the epochs as they go by, on the standard error: what ``verbose=1`` asks for.

    A live bar with rich where that is installed and a terminal is there to draw on, else a line
    about every second.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._last = -math.inf

    def on_fit_begin(self, trainer: Trainer) -> None:
        try:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )
        except ImportError:
            return
        console = Console(stderr=True)
        if not console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=trainer.target_epoch, completed=trainer.epoch)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        text = "  ".join(f"{name} {value:.5g}" for name, value in logs.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=epoch + 1, description=text)
        elif time.monotonic() - self._last > 1 or epoch + 1 == trainer.target_epoch:
            self._last = time.monotonic()
            print(f"epoch {epoch + 1}/{trainer.target_epoch}  {text}", file=sys.stderr)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _check_monitored(callback: EarlyStopping | ReduceLROnPlateau, trainer: Trainer) -> None:
    """Whether there will be what the callback watches."""
    if callback.monitor == "val_loss" and not trainer.validates:
        raise ValueError(
            f"{type(callback).__name__} monitors 'val_loss' but there is no validation data: give "
            "validation_data=(X, y) or validation_split=0.1, or monitor='loss'"
        )
