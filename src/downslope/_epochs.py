"""The loop over the epochs of a run: steps, callbacks, and the measures at each epoch's end."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from downslope import _lbfgs
from downslope._own_loss import Data
from downslope._run import Run
from downslope._scale import warn_if_unscaled
from downslope._source import Source, batch_set
from downslope._stepper import Stepper
from downslope.callbacks import Callback
from downslope.optimizers import LBFGS

if TYPE_CHECKING:
    from downslope.training import Trainer


class EpochLoop:
    """Takes a run from where it is to its end.

    Parameters
    ----------
    trainer : Trainer
        Its epochs are counted; callbacks are called with it.
    stepper : Stepper
        The trainer's.
    run : Run
    source : Source
    validation : Data or None
    threads : int
    callbacks : list of Callback
    """

    def __init__(
        self,
        trainer: Trainer,
        stepper: Stepper,
        run: Run,
        source: Source,
        validation: Data | None,
        threads: int,
        callbacks: Sequence[Callback],
    ) -> None:
        self.trainer, self.stepper, self.network = trainer, stepper, trainer.network
        self.run, self.source, self.validation = run, source, validation
        self.threads, self.callbacks = threads, callbacks
        self.watchers = [callback for callback in callbacks if callback.watches_batches]

    def run_epochs(self) -> None:
        """All that are left; in the end the parameters are their moving average, if one is kept."""
        optimizer, average = self.trainer.optimizer, self.stepper.descent.average
        if isinstance(optimizer, LBFGS):
            self._minimize(optimizer)
        else:
            self._descend()
        if average is not None and self.stepper.descent.steps > 0:  # it begins with a step
            self.network.parameters[...] = average

    def _descend(self) -> None:
        """Epochs of steps, each a pass over the rows or the batches."""
        run, trainer = self.run, self.trainer
        while trainer.epoch < trainer.target_epoch and not run.stopped:
            if run.batch == 0 and self._begin_epoch():
                return
            run.stopped = self._run_given() if self.source.data is None else self._run_rows()
            if run.met == 0:
                return
            self._end_epoch(run.total / run.met)

    def _minimize(self, optimizer: LBFGS) -> None:
        """Iterations of L-BFGS on all rows of a data set; each is an epoch."""
        run, trainer = self.run, self.trainer
        if self.source.rows is not None:
            self.source = self.source.take()
        data = self.source.data
        assert data is not None
        if self._begin_epoch():
            return
        begin = time.perf_counter()

        def loss_and_gradient() -> tuple[float, NDArray[Any]]:
            return self.stepper.compute_gradients(data, self.threads), self.network.gradients

        def after_iteration(loss: float) -> bool:
            nonlocal begin
            run.seconds = time.perf_counter() - begin
            self.stepper.descent.steps += 1
            self._end_epoch(loss)
            if trainer.epoch < trainer.target_epoch:
                self._begin_epoch()
                begin = time.perf_counter()
            return run.stopped

        iterations = trainer.target_epoch - trainer.epoch
        _lbfgs.run(
            optimizer, self.network.parameters, loss_and_gradient, iterations, after_iteration
        )

    def _run_rows(self) -> bool:
        """The batches of the epoch that are left, with a pause whenever a callback asks for one;
        whether a callback ends the run."""
        run, source = self.run, self.source
        assert source.data is not None
        assert source.order is not None
        begin = time.perf_counter()
        order = source.order.draw(self.network.seed, self.trainer.epoch)
        run.seconds += time.perf_counter() - begin
        stops = False
        while run.batch < run.batches and not stops:
            if self._begin_batch():
                return True
            begin, met, total = time.perf_counter(), run.met, run.total
            pause = min((callback.next_pause() for callback in self.callbacks), default=math.inf)
            run.advance(
                *self.stepper.train(
                    source.data,
                    order,
                    run.batch_size,
                    self.threads,
                    run.batch,
                    run.total,
                    0.0 if self.watchers else pause,
                )
            )
            run.seconds += time.perf_counter() - begin
            stops = self._end_batch((run.total - total) / (run.met - met))
            if run.batch < run.batches:
                stops |= self._pause()
        return stops

    def _run_given(self) -> bool:
        """The same with batches as they come, each a step, or so many as are to accumulate."""
        run, source = self.run, self.source
        count = self.stepper.rule.gradient_accumulation_steps
        left = itertools.islice(source.batches, run.batch * count, None)
        while batches := list(itertools.islice(left, count)):
            if self._begin_batch():
                return True
            begin = time.perf_counter()
            data = batch_set(self.network, self.stepper.loss, batches, source.class_weight)
            if run.batch == 0 and not run.history.loss:
                warn_if_unscaled(data.arrays[0])
            total, _ = self.stepper.train(data, None, data.rows, self.threads)
            run.total += total
            run.met += data.rows
            run.batch += 1
            run.seconds += time.perf_counter() - begin
            stops = self._end_batch(total / data.rows)
            if self._pause() or stops:
                return True
        if run.met == 0:
            raise ValueError(
                "there are no batches: give an iterable with at least one, that can be gone "
                "through in every epoch"
            )
        return False

    def _begin_epoch(self) -> bool:
        """Whether a callback ends the run."""
        self.run.stopped |= self._any_stops(
            callback.on_epoch_begin(self.trainer, self.trainer.epoch) for callback in self.callbacks
        )
        return self.run.stopped

    def _end_epoch(self, loss: float) -> None:
        """Validate, note and report an epoch with this mean loss."""
        run, trainer = self.run, self.trainer
        begin = time.perf_counter()
        logs = self._logs(loss)
        run.seconds += time.perf_counter() - begin
        run.end_epoch(logs)
        trainer.epoch += 1
        run.stopped |= self._any_stops(
            callback.on_epoch_end(trainer, trainer.epoch - 1, logs) for callback in self.callbacks
        )
        if run.stopped:
            trainer.target_epoch = trainer.epoch
        if self._epoch_pause() and not run.stopped:
            run.stopped, trainer.target_epoch = True, trainer.epoch
            self._epoch_pause()  # that all know that this is the end: a Checkpoint writes it

    def _epoch_pause(self) -> bool:
        return self._any_stops(callback.on_pause(self.trainer) for callback in self.callbacks)

    def _begin_batch(self) -> bool:
        return bool(self.watchers) and self._any_stops(
            callback.on_batch_begin(self.trainer, self.run.batch) for callback in self.watchers
        )

    def _end_batch(self, loss: float) -> bool:
        logs = {"loss": loss}
        return bool(self.watchers) and self._any_stops(
            callback.on_batch_end(self.trainer, self.run.batch - 1, logs)
            for callback in self.watchers
        )

    def _pause(self) -> bool:
        """A pause within an epoch, of this rank alone: ranks pause each at its own time, and only
        events that all of them meet can end the run."""
        stops = _any_true(callback.on_pause(self.trainer) for callback in self.callbacks)
        return stops and self.stepper.ranks is None

    def _any_stops(self, answers: Iterable[bool | None]) -> bool:
        """Whether a callback says True, on any rank if there are several; all are asked."""
        stops, ranks = _any_true(answers), self.stepper.ranks
        return stops if ranks is None else ranks.any(stops)

    def _logs(self, loss: float) -> dict[str, float]:
        """Losses and metrics at the end of an epoch with this mean loss."""
        source, validation, metrics = self.source, self.validation, self.trainer.metrics
        logs = {"loss": loss}
        if validation is not None:
            logs["val_loss"] = self.network.mean_loss(validation, self.stepper.loss, self.threads)
        if metrics and source.data is not None:
            logs |= self._measure(source.data, source.rows, "")
        if metrics and validation is not None:
            logs |= self._measure(validation, None, "val_")
        return logs

    def _measure(self, data: Data, rows: NDArray[np.int64] | None, prefix: str) -> dict[str, float]:
        """The metrics on some rows of a data set; None: all."""
        x, targets, _ = data.arrays
        outputs = self.network.predict(x, threads=self.threads)
        if rows is not None:
            targets, outputs = targets[rows], outputs[rows]
        return {
            f"{prefix}{metric.name}": metric(targets, outputs) for metric in self.trainer.metrics
        }


def _any_true(answers: Iterable[bool | None]) -> bool:
    """Whether any of them is True; all are asked."""
    return any(list(answers))
