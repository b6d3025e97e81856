"""What happens between epochs: stopping early, checkpoints, progress, the caller's own."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from downslope._bars import new_bar
from downslope._validate import as_count, as_number, choose
from downslope.checkpoints import previous_path

if TYPE_CHECKING:
    from downslope.training import Trainer

# Where Linux tells how many pages of memory the process holds.
_STATM = Path("/proc/self/statm")


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

    # An event that returns True ends the run.  An epoch that is cut short so is brought to an end
    # with the rows that it has met; it counts if there are any.

    def on_fit_begin(self, trainer: Trainer) -> bool | None:
        """Before the first epoch; ``trainer.target_epoch`` is where the run would end."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> bool | None:
        """Before an epoch; `epoch` counts from 0 over the trainer's life."""

    def on_batch_begin(self, trainer: Trainer, batch: int) -> bool | None:
        """Before a step; `batch` counts from 0 in the epoch.

        Only a callback that has this method or `on_batch_end` costs a return from the engine after
        every step.
        """

    def on_batch_end(self, trainer: Trainer, batch: int, logs: dict[str, float]) -> bool | None:
        """After a step; ``logs["loss"]`` is the mean loss of its rows before the update."""

    @property
    def watches_batches(self) -> bool:
        """Whether to call `on_batch_begin` and `on_batch_end`: if either has been overridden."""
        kind = type(self)
        return (
            kind.on_batch_begin is not Callback.on_batch_begin
            or kind.on_batch_end is not Callback.on_batch_end
        )

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> bool | None:
        """After an epoch and its validation; `logs` has its losses and metrics."""

    def on_pause(self, trainer: Trainer) -> bool | None:
        """When the run can be saved: after each epoch, when all callbacks have seen its end, and
        within an epoch, after a step, as `next_pause` of any callback asks or more often."""

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


class _Monitor(Callback):
    """What callbacks that watch a quantity have in common: which, and what counts as better."""

    def __init__(self, monitor: str, mode: str, patience: int, min_delta: float) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a name, such as 'val_loss'; got {monitor!r}")
        self.monitor, self.mode = monitor, choose("mode", mode, ("auto", "min", "max"))
        self.patience = as_count("patience", patience, at_least=0)
        self.min_delta = as_number("min_delta", min_delta, at_least=0.0)
        self._more_is_better = mode == "max"
        self._forget()

    def _forget(self) -> None:
        self.best = -math.inf if self._more_is_better else math.inf

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self.monitor.startswith("val_") and not trainer.validates:
            raise ValueError(
                f"{type(self).__name__} monitors {self.monitor!r} but there is no validation "
                "data: give validation_data=(X, y) or validation_split=0.1, or monitor='loss'"
            )
        choose("monitor", self.monitor, trainer.monitored)
        if self.mode == "auto":
            self._more_is_better = trainer.monitored[self.monitor]
        self._forget()

    def _improves(self, value: float) -> bool:
        """Whether a value is the best so far, by more than `min_delta`; NaN never is."""
        gain = value - self.best if self._more_is_better else self.best - value
        if not gain > self.min_delta:
            return False
        self.best = value
        return True


class EarlyStopping(_Monitor):
    """Stop when a monitored quantity has not improved for some epochs.

    Parameters
    ----------
    monitor : str, default "val_loss"
        What to watch: "loss", "val_loss", or a metric of the run, such as "val_accuracy".
    mode : {"auto", "min", "max"}, default "auto"
        Whether less or more is better; "auto": less of a loss, and what a metric says of itself.
    patience : int, default 0
        So many epochs in a row without improvement stop the run, as in Keras; 0 is as 1.
    min_delta : float, default 0.0
        The least change that counts as an improvement.
    warm_up : int, default 0
        So many first epochs of the run do not count: neither as the best, nor against the patience.
    restore_best_weights : bool, default False
        At the end, put back the parameters of the best epoch (the last ones are lost).

    Attributes
    ----------
    best : float
        The best value seen; NaN is none.
    best_epoch : int or None
        The epoch it was seen in; None if there was none.
    stopped_epoch : int or None
        The epoch after which the run was stopped; None if it was not.

    Raises
    ------
    ValueError
        From `fit`, if what is monitored is not in the run's logs.

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
        mode: str = "auto",
        patience: int = 0,
        min_delta: float = 0.0,
        warm_up: int = 0,
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, mode, patience, min_delta)
        self.warm_up = as_count("warm_up", warm_up, at_least=0)
        self.restore_best_weights = restore_best_weights
        self._first_epoch = 0

    def _forget(self) -> None:
        super()._forget()
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._best_parameters: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        super().on_fit_begin(trainer)
        self._first_epoch = trainer.target_epoch - trainer.epochs + self.warm_up

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> bool | None:
        if epoch < self._first_epoch:
            return None
        if self._improves(logs[self.monitor]):
            self.best_epoch = epoch
            if self.restore_best_weights:
                self._keep(trainer.network.parameters)
            return None
        last = self._first_epoch - 1 if self.best_epoch is None else self.best_epoch
        if epoch - last < self.patience:
            return None
        self.stopped_epoch = epoch
        return True

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


class ReduceLROnPlateau(_Monitor):
    """Lower the learning rate when a monitored quantity has not improved for some epochs.

    Parameters
    ----------
    monitor, mode
        See `EarlyStopping`.
    factor : float, default 0.1
        What the learning rate is multiplied by, between 0 and 1.
    patience : int, default 10
        So many epochs in a row without improvement lower the rate, as in Keras; 0 is as 1.
    min_delta : float, default 1e-4
        The least change that counts as an improvement.
    cooldown : int, default 0
        So many epochs after a reduction are not counted.
    min_learning_rate : float, default 0.0
        It gets no lower.

    Raises
    ------
    ValueError
        From `fit`, if what is monitored is not in the run's logs, or if the optimiser's learning
        rate follows a schedule.

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
        mode: str = "auto",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_learning_rate: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, patience, min_delta)
        self.factor = as_number("factor", factor, above=0.0, below=1.0)
        self.cooldown = as_count("cooldown", cooldown, at_least=0)
        self.min_learning_rate = as_number("min_learning_rate", min_learning_rate, at_least=0.0)

    def _forget(self) -> None:
        super()._forget()
        self._waited, self._resting = 0, 0

    def on_fit_begin(self, trainer: Trainer) -> None:
        super().on_fit_begin(trainer)
        if getattr(trainer.optimizer, "schedule", None) is not None:
            raise ValueError(
                "ReduceLROnPlateau contradicts the schedule of the optimizer's learning rate; "
                "drop one of them"
            )
        if not hasattr(trainer.optimizer, "learning_rate"):
            raise ValueError(f"{trainer.optimizer!r} has no learning rate to lower")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self._waited, "resting": self._resting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self._waited = state["best"], state["waited"]
        self._resting = state["resting"]

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        rested = self._resting == 0
        self._resting = max(0, self._resting - 1)
        if self._improves(logs[self.monitor]):
            self._waited = 0
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
        if every_epochs is not None:
            every_epochs = as_count("every_epochs", every_epochs)
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
        temporary = self.path.with_name(f".downslope-{os.urandom(8).hex()}.tmp")
        try:
            os.link(self.path, temporary)
        except OSError:  # a file system without hard links
            temporary.write_bytes(self.path.read_bytes())
        os.replace(temporary, self.previous)
        temporary.unlink(missing_ok=True)  # still there if both were names of one file


class TimeLimit(Callback):
    """End the run after some time, within an epoch too.

    Parameters
    ----------
    seconds : float
        From the beginning of `fit`.

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> limit = ds.TimeLimit(0.05)
    >>> ds.Network([1, 1], seed=0).fit(x, x, epochs=10**9, callbacks=[limit]).epochs < 10**9
    True
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = as_number("seconds", seconds, above=0.0)
        self._end = math.inf

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._end = time.monotonic() + self.seconds

    def next_pause(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def on_pause(self, trainer: Trainer) -> bool:
        return time.monotonic() >= self._end


class MemoryLimit(Callback):
    """End the run when the process holds more memory than allowed; looks about every second.

    Parameters
    ----------
    megabytes : float
        Of the process's resident memory, in 10**6 bytes.  Pages of a `numpy.memmap` that are in
        memory count.

    Raises
    ------
    RuntimeError
        From `fit`, where the system does not tell (it must have /proc/self/statm).
    """

    def __init__(self, megabytes: float) -> None:
        self.megabytes = as_number("megabytes", megabytes, above=0.0)
        self._looked = -math.inf

    def on_fit_begin(self, trainer: Trainer) -> bool:
        if not _STATM.exists():
            raise RuntimeError(f"MemoryLimit needs {_STATM}, which this system does not have")
        return self._is_exceeded()

    def next_pause(self) -> float:
        return max(0.0, self._looked + 1.0 - time.monotonic())

    def on_pause(self, trainer: Trainer) -> bool:
        return self._is_exceeded()

    def _is_exceeded(self) -> bool:
        self._looked = time.monotonic()
        pages = int(_STATM.read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") > self.megabytes * 1e6


class JSONLines(Callback):
    """Write a line of JSON after each epoch: its number from 0, losses, metrics and seconds.

    Parameters
    ----------
    path : path
        The file; lines are added at its end, and each is on its way to the disk at once.

    Examples
    --------
    >>> import downslope as ds, json, numpy as np, pathlib, tempfile
    >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "run.jsonl")
    ...     _ = ds.Network([1, 1], seed=0).fit(x, x, epochs=3, callbacks=[ds.JSONLines(path)])
    ...     [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
    [0, 1, 2]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.fsdecode(path))
        self._file: Any = None
        self._begun = 0.0

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._file, self._begun = self.path.open("a", encoding="utf-8"), time.monotonic()

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        seconds = round(time.monotonic() - self._begun, 6)
        finite = {name: value if math.isfinite(value) else None for name, value in logs.items()}
        self._file.write(json.dumps({"epoch": epoch, **finite, "seconds": seconds}) + "\n")
        self._file.flush()

    def on_fit_end(self, trainer: Trainer) -> None:
        self._file.close()
        self._file = None  # which can not be copied or pickled


class TensorBoard(Callback):
    """Write losses and metrics for TensorBoard; needs the package tensorboard.

    Parameters
    ----------
    folder : path
        Where to write; ``tensorboard --logdir`` of it shows them.

    Raises
    ------
    ImportError
        From `fit`, if tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fsdecode(folder)
        self._writer: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise ImportError(
                "the TensorBoard callback needs tensorboard: python -m pip install tensorboard"
            ) from error
        self._writer = Writer(self.folder)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        for name, value in logs.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def on_fit_end(self, trainer: Trainer) -> None:
        self._writer.close()
        self._writer = None  # which can not be copied or pickled


class Progress(Callback):
    """Show the epochs as they go by, on the standard error: what ``verbose=1`` asks for.

    The losses and metrics, the rows trained on in a second, and the time that is left.

    Parameters
    ----------
    style : {"auto", "rich", "tqdm", "lines"}, default "auto"
        A live bar of rich or of tqdm, or a line about every second.  "auto" takes rich, else tqdm,
        where that is installed and there is a terminal or a notebook to draw on, else lines.

    Raises
    ------
    ImportError
        From `fit`, if the library of the style is not installed.
    """

    def __init__(self, style: str = "auto") -> None:
        self.style = choose("style", style, ("auto", "rich", "tqdm", "lines"))
        self._show: Any = None
        self._begun = self._last = -math.inf

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._begun, self._last = time.monotonic(), -math.inf
        self._first = trainer.epoch
        self._show = new_bar(self.style, trainer.epoch, trainer.target_epoch)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        text = "  ".join(f"{name} {value:.5g}" for name, value in logs.items())
        now = time.monotonic()
        if self._show is not None:
            self._show.advance(epoch + 1, f"{text}  {self._speed(trainer, epoch, now)}")
        elif now - self._last > 1 or epoch + 1 == trainer.target_epoch:
            self._last = now
            left = (now - self._begun) / (epoch + 1 - self._first)
            left *= trainer.target_epoch - epoch - 1
            print(
                f"epoch {epoch + 1}/{trainer.target_epoch}  {text}  "
                f"{self._speed(trainer, epoch, now)}  {left:.0f} s left",
                file=sys.stderr,
            )

    def _speed(self, trainer: Trainer, epoch: int, now: float) -> str:
        epochs = epoch + 1 - self._first
        if not trainer.rows:
            return f"{epochs / (now - self._begun):.3g} epochs/s"
        return f"{trainer.rows * epochs / (now - self._begun):.3g} samples/s"

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._show is not None:
            self._show.close()
            self._show = None


def as_callbacks(callbacks: Any) -> list[Callback]:
    """The callbacks of a list."""
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise TypeError(
            "callbacks must be a list, such as [downslope.EarlyStopping()]; "
            f"got {type(callbacks).__name__}"
        )
    checked = list(callbacks)
    for callback in checked:
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks must be downslope.Callback objects, not their classes; got {callback!r}"
            )
    return checked
