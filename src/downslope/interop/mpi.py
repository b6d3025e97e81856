"""Training on the ranks of an MPI job, with mpi4py.

Every rank holds the whole network and the whole data set (a memory map will do) and computes the
gradients of its share of each batch's rows; the sum over the ranks is made in place in
``network.gradients``, and each rank makes the same update.

The order of that sum: `any` is MPI's ``Allreduce``, the quickest, equal on all ranks, and to
rounding what one rank gives.  `fixed` lets the ranks add their rows one after another, so that
every gradient is the same chain over the batch's rows as on a single rank, to the bit (but for a
bias that a layer's units share); they wait for each other meanwhile: it is for checking, not for
speed.

A rank that fails alone ends the job: the others wait for it in a sum that it never enters.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from downslope import _engine
from downslope._own_loss import Data, Rows
from downslope._validate import choose

if TYPE_CHECKING:
    from downslope._stepper import Stepper
    from downslope.network import Network

ORDERS = ("any", "fixed")


class Ranks:
    """The ranks that train one network together.

    Parameters
    ----------
    communicator : mpi4py.MPI.Intracomm
        Duplicated once, so that its messages are apart from the caller's.
    order : {"any", "fixed"}
        Of the sum of the ranks' gradients.
    """

    def __init__(self, communicator: Any, order: str) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise ImportError(
                "training on a communicator needs mpi4py: pip install 'downslope[mpi]'"
            ) from error
        if not isinstance(communicator, MPI.Intracomm):
            raise TypeError(
                "communicator must be an mpi4py communicator such as MPI.COMM_WORLD; "
                f"got {type(communicator).__name__}"
            )
        self._in_place = MPI.IN_PLACE
        self._fixed = choose("rank_order", order, ORDERS) == "fixed"
        self._communicator = _duplicate(MPI, communicator)
        self._rank, self._size = self._communicator.rank, self._communicator.size

    def join(self, description: dict[str, Any], network: Network, state: NDArray[Any]) -> None:
        """Take the parameters, the optimiser's state and the seed of rank 0, if all ranks train the
        same."""
        descriptions = self._communicator.allgather(description)
        for rank, other in enumerate(descriptions):
            if other != descriptions[0]:
                raise ValueError(
                    f"all ranks must train the same network with the same loss and optimizer; rank "
                    f"{rank} has {other}, rank 0 {descriptions[0]}"
                )
        network.seed = self._communicator.bcast(network.seed)
        for vector in (network.parameters, *state):
            self._communicator.Bcast(vector)

    def any(self, value: bool) -> bool:
        """Whether it is so on any rank."""
        return any(self._communicator.allgather(value))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """End the job when this rank fails where others may not; all see a divergence."""
        try:
            yield
        except FloatingPointError:
            raise
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            self._communicator.Abort(1)
            raise

    def train(
        self,
        stepper: Stepper,
        data: Data,
        order: NDArray[np.int64] | None,
        batch_size: int,
        threads: int,
        batch: int,
        total: float,
        seconds: float,
    ) -> tuple[float, int]:
        """As `Stepper.train`, with the rows of each batch shared out."""
        if isinstance(data, Rows):
            raise TypeError("ranks train with losses by their names; got a function")
        rows = data.rows if order is None else len(order)
        stepper.descent.keep_gradients(stepper.network.gradients)
        schedule, rates = stepper.rule.schedule, None
        if schedule is not None:
            rates = schedule.rates(stepper.descent.steps, -(-rows // batch_size) - batch)
        begun, deadline = batch, time.monotonic() + seconds
        with self.together():
            while batch * batch_size < rows:
                first = batch * batch_size
                if rates is not None:
                    stepper.descent.learning_rate = rates[batch - begun]
                count = min(batch_size, rows - first)
                total += self._gradients(stepper, data, order, first, count, threads)
                stepper.check(stepper.descent.update())
                batch += 1
                if time.monotonic() >= deadline:  # the others wait at the next sum
                    break
        return total, batch

    def _gradients(
        self,
        stepper: Stepper,
        data: _engine.Dataset,
        order: NDArray[np.int64] | None,
        first: int,
        rows: int,
        threads: int,
    ) -> float:
        """The gradients of a batch, on every rank; the sum of its rows' losses."""
        descent, gradients = stepper.descent, stepper.network.gradients
        begin = rows * self._rank // self._size
        own = rows * (self._rank + 1) // self._size - begin
        goes_on = self._fixed and self._rank > 0
        if goes_on:
            self._communicator.Recv(gradients, self._rank - 1)
        status, loss = _engine.STATUS_OK, 0.0
        if own > 0:
            loss_kernel = stepper.losses[data.has_labels]
            status, loss = descent.compute_part(
                data,
                loss_kernel,
                order,
                first + begin,
                own,
                rows,
                goes_on,
                self._rank + 1 == self._size,  # the layers' penalties once, after all rows
                threads,
            )
        elif not goes_on:
            gradients[:] = 0
        if self._fixed and self._rank + 1 < self._size:
            self._communicator.Send(gradients, self._rank + 1)

        summary = np.array([loss, status])
        self._communicator.Allreduce(self._in_place, summary)
        if summary[1] != 0:
            stepper.check(_engine.STATUS_LOSS_NOT_FINITE)
        if self._fixed:
            self._communicator.Bcast(gradients, self._size - 1)
        else:
            self._communicator.Allreduce(self._in_place, gradients)
        return float(summary[0])


# The key under which a communicator keeps its duplicate.
_key: int | None = None


def _duplicate(mpi: Any, communicator: Any) -> Any:
    """A communicator's duplicate, the same for all who ask: there are but some thousands of them,
    and freeing one takes all ranks at once, which no collector of garbage brings about."""
    global _key
    if _key is None:
        _key = mpi.Comm.Create_keyval(delete_fn=lambda _, __, duplicate: duplicate.Free())
    duplicate = communicator.Get_attr(_key)
    if duplicate is None:
        duplicate = communicator.Dup()
        communicator.Set_attr(_key, duplicate)
    return duplicate
