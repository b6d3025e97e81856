"""Forward passes that can be gone back through, as many alive at once as the caller keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _engine, _threads
from downslope._validate import as_memory, as_rows, check_apart, some_rows

if TYPE_CHECKING:
    from downslope.network import Network


class Pass:
    """A forward pass and what going back through it needs: inputs and activations.

    Each pass has memory of its own, so any number can be alive at once: a network that is applied
    twice in one loss, actor and target, truncated sequences.  A pass that is used again keeps its
    memory.  Going back takes the parameters as they are by then.

    Parameters
    ----------
    network : Network

    Attributes
    ----------
    rows : int
        Of the last `forward`; 0 before the first.

    Examples
    --------
    >>> import downslope as ds
    >>> net = ds.Network([2, 1], weights=[[[1.0], [2.0]]])
    >>> first, second = ds.Pass(net), ds.Pass(net)
    >>> y1, y2 = first.forward([[1.0, 1.0]]), second.forward([[3.0, 0.0]])
    >>> d_x2 = second.backward([[1.0]], net.gradients)
    >>> d_x1 = first.backward([[1.0]], net.gradients, accumulate=True)
    >>> net.gradients
    array([4., 1., 2.], dtype=float32)
    """

    def __init__(self, network: Network) -> None:
        # not the network itself: it holds a pass, and cycles of large memory wait for the collector
        self._plan = network._engine_plan
        self._parameters = network.parameters
        self._workspace: _engine.Workspace | None = None
        self._exclusive = _engine.Exclusive(
            "another thread is in this pass; give each thread a Pass of its own"
        )
        self.rows = 0

    def forward(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The outputs for rows of inputs.

        Parameters
        ----------
        X : array (rows, inputs)
            Copied: it may change before `backward`.
        threads : int, optional

        Returns
        -------
        array (rows, outputs)

        Raises
        ------
        TypeError, ValueError
            If X is not as it should be, or has no rows.
        RuntimeError
            If another thread is in this pass.
        """
        plan = self._plan
        x = some_rows("X", as_rows("X", X, plan.inputs, self._parameters.dtype))
        out = np.empty((len(x), plan.outputs), self._parameters.dtype)
        with self._exclusive:
            if self._workspace is not None:
                self._workspace.check_idle()
            if self._workspace is None or self._workspace.rows < len(x):
                self._workspace = _engine.Workspace(plan, len(x), True)
            self.rows = 0
            _engine.forward(
                plan, self._parameters, x, out, self._workspace, _threads.resolve(threads)
            )
            self.rows = len(x)
        return out

    def backward(
        self,
        d_out: ArrayLike,
        gradients: NDArray[Any] | None = None,
        *,
        accumulate: bool = False,
        threads: int | None = None,
    ) -> NDArray[Any]:
        """Back-propagate a gradient through the last `forward`; again, if called again.

        Parameters
        ----------
        d_out : array (rows, outputs)
            Gradient of an error by the outputs that `forward` gave.
        gradients : array (parameters,) or (rows, parameters), optional
            Where to write the gradients by the parameters, such as ``network.gradients``: summed
            over the rows, or with two axes those of each row.  Without it they are not computed.
        accumulate : bool, default False
            Add to `gradients` instead of replacing them.
        threads : int, optional

        Returns
        -------
        array (rows, inputs)
            Gradient of the error by the inputs.

        Raises
        ------
        RuntimeError
            If there was no `forward`, or another thread is in this pass.
        TypeError, ValueError
            If an argument is not as it should be.

        Examples
        --------
        Gradients of each row:

        >>> import downslope as ds, numpy as np
        >>> net = ds.Network([2, 1], weights=[[[1.0], [2.0]]], dtype="float64")
        >>> one = ds.Pass(net)
        >>> y = one.forward([[1.0, 2.0], [3.0, 4.0]])
        >>> of_rows = np.empty((2, net.parameters.size))
        >>> d_x = one.backward([[1.0], [1.0]], of_rows)
        >>> of_rows
        array([[1., 2., 1.],
               [3., 4., 1.]])
        """
        plan, dtype = self._plan, self._parameters.dtype
        with self._exclusive:
            workspace = self._kept("backward")
            d = as_rows("d_out", d_out, plan.outputs, dtype)
            if len(d) != self.rows:
                raise ValueError(
                    f"d_out must have the {self.rows} rows of the last forward(); got {len(d)}"
                )
            if gradients is not None:
                rows = (self.rows,) if np.ndim(gradients) == 2 else ()
                shape = (*rows, plan.parameters)
                gradients = as_memory("gradients", gradients, shape, dtype)
                check_apart(gradients=gradients, parameters=self._parameters)
            d_x = np.empty((len(d), plan.inputs), dtype)
            _engine.backward(
                plan,
                self._parameters,
                d,
                gradients,
                d_x,
                workspace,
                _threads.resolve(threads),
                accumulate,
            )
        return d_x

    def jacobian(self, *, threads: int | None = None) -> NDArray[Any]:
        """The derivatives of all outputs by all inputs, for each row of the last `forward`.

        Parameters
        ----------
        threads : int, optional

        Returns
        -------
        array (rows, outputs, inputs)

        Raises
        ------
        RuntimeError
            If there was no `forward`, or another thread is in this pass.

        Examples
        --------
        >>> import downslope as ds
        >>> net = ds.Network([2, 2], weights=[[[1.0, 2.0], [3.0, 4.0]]])
        >>> one = ds.Pass(net)
        >>> y = one.forward([[1.0, 1.0]])
        >>> one.jacobian()
        array([[[1., 3.],
                [2., 4.]]], dtype=float32)
        """
        plan, dtype = self._plan, self._parameters.dtype
        with self._exclusive:
            workspace = self._kept("jacobian")
            result = np.empty((self.rows, plan.outputs, plan.inputs), dtype)
            d_out = np.zeros((self.rows, plan.outputs), dtype)
            for output in range(plan.outputs):
                d_out[:, output] = 1
                _engine.backward(
                    plan,
                    self._parameters,
                    d_out,
                    None,
                    result[:, output],
                    workspace,
                    _threads.resolve(threads),
                    False,
                )
                d_out[:, output] = 0
        return result

    def _kept(self, method: str) -> _engine.Workspace:
        """What the last `forward` left."""
        if self._workspace is None or self.rows == 0:
            raise RuntimeError(f"{method}() needs a forward() before it: call forward(X)")
        return self._workspace
