"""What happens between epochs: stopping early, checkpoints, progress, the caller's own."""

from __future__ import annotations

import math
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from downslope._validate import as_count, as_number, choose
from downslope.checkpoints import previous_path

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

    def on_pause(self, trainer: Trainer) -> None:
        """When the run can be saved: after each epoch, when all callbacks have seen its end, and
        within an epoch, after a step, as `next_pause` asks."""

    def next_pause(self) -> float:
        """In how many seconds to call `on_pause` within the epoch; infinity: not before its end."""
        return math.inf

    def on_fit_end(self, trainer: Trainer) -> None:
        """At the end, also after an error or Ctrl-C (then ``trainer.interrupted`` is True)."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback, by names: numbers, texts, lists and arrays.

        A callback that has a state has some entry at any time.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave; called after `on_fit_begin`."""


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

    def state_dict(self) -> dict[str, Any]:
        names = ("best", "best_epoch", "stopped_epoch")
        state = {name: getattr(self, name) for name in names}
        if self._best_parameters is not None:
            state["best_parameters"] = self._best_parameters
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.stopped_epoch = state["stopped_epoch"]
        self._best_parameters = state.get("best_parameters")

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

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited, "resting": self._resting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best, self._waited = state["best"], state["waited"]
        self._resting = state["resting"]

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


class Checkpoint(Callback):
    """Write the training to a file now and then, so that it can be resumed after a crash.

    The file is replaced whole: whoever kills the program at whatever moment finds the old
    checkpoint or the new one.  The one before it is kept beside it, as `previous` says.
    `Trainer.resume` goes on from either, and `downslope.load` reads the network.

    Parameters
    ----------
    path : path
        The file, in the safetensors format.
    every_epochs : int or None, default 1
        Write after so many epochs; the end of the run is written anyway.
    every_seconds : float, optional
        Write when so many seconds have passed since the last time, within an epoch too.

    Raises
    ------
    TypeError, ValueError
        If an interval is not a positive number.
    FileNotFoundError
        From `fit`, if the folder does not exist.

    Examples
    --------
    See `Trainer.resume`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every_epochs: int | None = 1,
        every_seconds: float | None = None,
    ) -> None:
        self.path = Path(os.fsdecode(path))
        self.every_epochs = (
            every_epochs if every_epochs is None else as_count("every_epochs", every_epochs)
        )
        if every_seconds is not None:
            every_seconds = as_number("every_seconds", every_seconds, above=0)
        self.every_epochs, self.every_seconds = every_epochs, every_seconds

    @property
    def previous(self) -> Path:
        """Where the checkpoint before the last one is kept."""
        return previous_path(self.path)

    def on_fit_begin(self, trainer: Trainer) -> None:
        folder = self.path.resolve().parent
        if not folder.is_dir():
            raise FileNotFoundError(f"the folder for checkpoints does not exist: {folder}")
        self._epoch, self._written = trainer.epoch, time.monotonic()

    def next_pause(self) -> float:
        if self.every_seconds is None:
            return math.inf
        return max(0.0, self._written + self.every_seconds - time.monotonic())

    def on_pause(self, trainer: Trainer) -> None:
        if self._is_due(trainer.epoch, trainer.target_epoch):
            self._keep_previous()
            trainer.save(self.path)
            self._written = time.monotonic()
        self._epoch = trainer.epoch

    def _is_due(self, epoch: int, target: int) -> bool:
        if self.next_pause() == 0 or epoch == target:
            return True
        return bool(epoch > self._epoch and self.every_epochs and epoch % self.every_epochs == 0)

    def _keep_previous(self) -> None:
        """A second name for the file that is about to be replaced; at no time is there none."""
        if not self.path.exists():
            return
        temporary = self.path.with_name(f".downslope-{secrets.token_hex(8)}.tmp")
        try:
            os.link(self.path, temporary)
        except OSError:  # a file system without hard links
            temporary.write_bytes(self.path.read_bytes())
        os.replace(temporary, self.previous)
        temporary.unlink(missing_ok=True)  # still there if both were names of one file


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
