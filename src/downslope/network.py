"""What a network is: layers over one flat parameter vector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope import _engine, _kernels, _own_loss, _plan, _threads
from downslope._layer_list import as_layers, check_layers, from_widths, refuse_beside_layers
from downslope._memory import aligned_zeros
from downslope._own_loss import Data, LossFunction, Rows
from downslope._validate import (
    as_any_targets,
    as_count,
    as_finite,
    as_float_type,
    as_memory,
    as_number,
    as_row,
    as_rows,
    as_seed,
    as_targets,
    as_weights,
    check_apart,
    some_rows,
)
from downslope.activations import Activation
from downslope.initializers import Initializer
from downslope.layers import TRAINING_OPTIONS, Dense, Layer
from downslope.losses import Loss, as_loss
from downslope.passes import Pass

if TYPE_CHECKING:
    from downslope.callbacks import Callback
    from downslope.diagnosis import Diagnosis
    from downslope.history import History
    from downslope.optimizers import LBFGS, Optimizer


class Network:
    """A feed-forward network: fully connected layers, one after another.

    Parameters
    ----------
    widths : list of int, or int
        Numbers of units from the inputs to the outputs, as in ``[64, 32, 10]``; or the number of
        inputs when `layers` are given.
    layers : list of Dense, optional
        The layers, each with its own activation.
    activation : str, Activation or list of these, default "relu"
        Of the hidden layers: one for all, or one for each.
    output : str or Activation, default "identity"
        Of the last layer.
    weights : str, Initializer or list of arrays (inputs, outputs), default "auto"
        Initial weights, see `Dense`.
    use_bias, shared_bias : bool, default True and False
        A bias for each unit; one number for each layer; or none.
    dropout : float or list of float, default 0.0
        Of the hidden layers' outputs in training: one for all, or one for each; see `Dense`.
    input_dropout : float, default 0.0
        The same of the inputs.
    input_noise : float, default 0.0
        In training, normal noise of this standard deviation is added to the inputs, before any of
        them are dropped; for inputs of about unit scale.
    dtype : {"float32", "float64"}, default "float32"
        Type of parameters and arithmetic.
    seed : int, optional
        From 0 to 2**64 - 1.  Determines initial weights and the order of rows in training; drawn
        at random (and kept in `seed`) if not given.
    parameters, gradients : array (n,), optional
        Memory of the caller's for the attributes of these names: anything of the network's type
        with the buffer protocol or DLPack, such as a slice of a larger array, shared memory, a
        memory map or a tensor on the CPU.  Used where it lies and never copied; the parameters are
        taken as they stand, in place of initial weights.

    Attributes
    ----------
    layers : list of Layer
        Each with ``weights`` (inputs, outputs) and ``bias`` (outputs,), writable views.
    parameters : array (n,)
        All weights and biases, layer after layer, in one flat array; write into it in place.
    gradients : array (n,)
        In the same order; what `backward` and ``Trainer.compute_gradients`` fill.
    inputs, outputs : int
        Widths of the first and the last layer.
    input_dropout, input_noise : float
        As given.
    metadata : dict of str to str
        Kept with the network by `save`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, unknown, or contradicts another.

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> net = ds.Network([2, 3, 1], activation="tanh", seed=0)
    >>> net.predict(np.ones((5, 2))).shape
    (5, 1)
    >>> net.layers[0].weights.shape, net.parameters.size
    ((2, 3), 13)
    """

    def __init__(
        self,
        widths: Sequence[int] | int,
        layers: Sequence[Dense] | None = None,
        *,
        activation: str | Activation | Sequence[str | Activation] = "relu",
        output: str | Activation = "identity",
        weights: str | Initializer | Sequence[ArrayLike] = "auto",
        use_bias: bool = True,
        shared_bias: bool = False,
        dropout: float | Sequence[float] = 0.0,
        input_dropout: float = 0.0,
        input_noise: float = 0.0,
        dtype: Any = "float32",
        seed: int | None = None,
        parameters: Any = None,
        gradients: Any = None,
    ) -> None:
        options: dict[str, Any] = {
            "activation": activation,
            "output": output,
            "weights": weights,
            "use_bias": use_bias,
            "shared_bias": shared_bias,
            "dropout": dropout,
        }
        if layers is None:
            inputs, dense = from_widths(widths, **options)
        else:
            inputs, dense = as_count("the number of inputs", widths), as_layers(layers)
            refuse_beside_layers(options, Network.__init__.__kwdefaults__ or {})
        check_layers(inputs, dense)
        self.input_dropout = as_number("input_dropout", input_dropout, at_least=0.0, below=1.0)
        self.input_noise = as_number("input_noise", input_noise, at_least=0.0)
        self._build(inputs, dense, as_float_type(dtype), as_seed(seed), parameters, gradients)
        if parameters is not None:
            return
        with np.errstate(over="ignore"):  # what overflows is found by the check that follows
            _plan.initialize(self.layers, dense, self.seed)
        if not np.isfinite(self._parameters).all():
            raise ValueError(
                f"an initial weight or bias is beyond the range of {self.dtype}; "
                "give smaller ones, or dtype='float64'"
            )

    def _build(
        self,
        inputs: int,
        dense: Sequence[Dense],
        dtype: np.dtype[Any],
        seed: int,
        parameters: Any = None,
        gradients: Any = None,
    ) -> None:
        self._dense = list(dense)
        self.dtype, self.seed = dtype, seed
        self.metadata: dict[str, str] = {}
        self._engine_plan = _plan.make_plan(
            inputs, dense, dtype, self.input_dropout, self.input_noise
        )
        self.inputs, self.outputs = self._engine_plan.inputs, self._engine_plan.outputs
        shape = (self._engine_plan.parameters,)
        self._parameters: NDArray[Any] = (
            aligned_zeros(shape, dtype)
            if parameters is None
            else as_finite("parameters", as_memory("parameters", parameters, shape, dtype)[None])[0]
        )
        self._gradients: NDArray[Any] | None = (
            None if gradients is None else as_memory("gradients", gradients, shape, dtype)
        )
        check_apart(parameters=self._parameters, gradients=self._gradients)
        self.layers: list[Layer] = _plan.make_views(inputs, dense, self._parameters)
        self._inference = _engine.Inference(self._engine_plan, self._parameters)
        self._pass = Pass(self)  # of the last `forward`
        #: Held by the thread that trains the network.
        self.exclusive = _engine.Exclusive(
            "another thread is training this network, or in its forward() or backward(). Train one "
            "network from one thread at a time, or copies of it: copy.deepcopy(network)"
        )

    # ---- Parameters ----

    @property
    def parameters(self) -> NDArray[Any]:
        return self._parameters

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        self._parameters[...] = values

    @property
    def gradients(self) -> NDArray[Any]:
        if self._gradients is None:
            self._gradients = aligned_zeros(self._parameters.size, self.dtype)
        return self._gradients

    @gradients.setter
    def gradients(self, values: ArrayLike) -> None:
        self.gradients[...] = values

    # ---- Passes ----

    def predict(
        self, X: ArrayLike, *, out: NDArray[Any] | None = None, threads: int | None = None
    ) -> NDArray[Any]:
        """The outputs for rows of inputs.

        A row's outputs do not depend on the rows it came with, nor on the threads.

        Parameters
        ----------
        X : array (rows, inputs)
            Finite numbers; used without a copy if they are of the network's type.
        out : array (rows, outputs), optional
            Where to write, of the network's type, C-contiguous.
        threads : int, optional
            At most so many; see `set_num_threads`.

        Returns
        -------
        array (rows, outputs)
            `out`, if given.

        Raises
        ------
        TypeError, ValueError
            If X or `out` is not as it should be.

        Examples
        --------
        >>> import downslope as ds
        >>> net = ds.Network([2, 1], weights=[[[1.0], [2.0]]])
        >>> net.predict([[1.0, 1.0]])
        array([[3.]], dtype=float32)
        """
        count = _threads.resolve(threads)
        result = self._inference.predict_ready(X, 2, out, count)
        if result is None:
            x = as_rows("X", X, self.inputs, self.dtype)
            result = self._output_array(out, x)
            self._inference.predict(x, result, count)
        return result

    def predict_one(self, x: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The outputs for one row of inputs.

        Parameters
        ----------
        x : array (inputs,)
        threads : int, optional

        Returns
        -------
        array (outputs,)

        Raises
        ------
        TypeError, ValueError
            If x is not as it should be.

        Examples
        --------
        >>> import downslope as ds
        >>> net = ds.Network([2, 1], weights=[[[1.0], [2.0]]])
        >>> net.predict_one([1.0, 1.0])
        array([3.], dtype=float32)
        """
        result = self._inference.predict_ready(x, 1, None, _threads.resolve(threads))
        if result is None:
            result = self.predict(as_row("x", x, self.inputs), threads=threads)[0]
        return result

    def forward(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The outputs for rows of inputs, keeping what `backward` needs; see `Pass` for several.

        Parameters
        ----------
        X : array (rows, inputs)
        threads : int, optional

        Returns
        -------
        array (rows, outputs)

        Raises
        ------
        TypeError, ValueError
            If X is not as it should be, or has no rows.
        RuntimeError
            If another thread is training the network.

        Examples
        --------
        >>> import downslope as ds
        >>> net = ds.Network([2, 1], weights=[[[1.0], [2.0]]])
        >>> net.forward([[1.0, 1.0]])
        array([[3.]], dtype=float32)
        >>> net.backward([[1.0]])
        array([[1., 2.]], dtype=float32)
        """
        with self.exclusive:
            return self._pass.forward(X, threads=threads)

    def backward(
        self, d_out: ArrayLike, *, accumulate: bool = False, threads: int | None = None
    ) -> NDArray[Any]:
        """Back-propagate a gradient through the last `forward`.

        Parameters
        ----------
        d_out : array (rows, outputs)
            Gradient of an error by the outputs that `forward` gave.
        accumulate : bool, default False
            Add to `gradients` instead of replacing them.
        threads : int, optional

        Returns
        -------
        array (rows, inputs)
            Gradient of the error by the inputs; the gradients by the parameters, summed over the
            rows, are in `gradients`.

        Raises
        ------
        RuntimeError
            If there was no `forward`, or another thread is training the network.
        TypeError, ValueError
            If `d_out` is not as it should be.
        """
        with self.exclusive:
            return self._pass.backward(
                d_out, self.gradients, accumulate=accumulate, threads=threads
            )

    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | Loss | LossFunction = "mse",
        sample_weight: ArrayLike | None = None,
        threads: int | None = None,
    ) -> float:
        """The mean loss over rows.

        Parameters
        ----------
        X : array (rows, inputs)
        y : array (rows, outputs), or (rows,) for one output or for class labels
        loss : str, Loss or function, default "mse"
            See `fit`.
        sample_weight : array (rows,), optional
            The result is ``sum(weight * loss) / rows``.
        threads : int, optional

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If an argument is not as it should be.

        Examples
        --------
        >>> import downslope as ds
        >>> net = ds.Network([2, 1], weights=[[[1.0], [2.0]]])
        >>> net.evaluate([[1.0, 1.0]], [[5.0]])
        4.0
        """
        chosen = self.checked_loss(loss)
        return self.mean_loss(
            self.dataset(X, y, chosen, sample_weight), chosen, _threads.resolve(threads)
        )

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        loss: str | Loss | LossFunction = "mse",
        optimizer: str | Optimizer | LBFGS = "sgd",
        epochs: int = 1,
        batch_size: int | None = 32,
        shuffle: bool = True,
        sampling: str = "without_replacement",
        sample_weight: ArrayLike | None = None,
        class_weight: Any = None,
        metrics: Sequence[Any] = (),
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        callbacks: Sequence[Callback] = (),
        on_divergence: str = "raise",
        threads: int | None = None,
        verbose: int = 0,
    ) -> History:
        """Train the network: ``Trainer(network, loss, optimizer).fit(...)``.

        Parameters
        ----------
        X : array (rows, inputs), or iterable of batches (X, y)
        y : array (rows, outputs), or (rows,) for one output or for class labels
        loss : str, Loss or function, default "mse"
            A name, as in `Loss`, which also takes parameters.  ``binary_cross_entropy`` needs
            ``output="sigmoid"``; ``cross_entropy`` and ``focal`` need ``output="softmax"`` and take
            labels (rows,) or probabilities (rows, outputs).  Or a function of the outputs (rows,
            outputs) and the targets of a batch that returns a tuple: the losses (rows,) or their
            mean, and the gradient (rows, outputs) of the mean by the outputs.  The targets reach it
            as they are, whatever they mean.  A function is called once per batch, on a slower
            path.
        optimizer : str, Optimizer or LBFGS, default "sgd"
            ``"sgd"``, ``"adam"``, ``"adamw"``, ``"nadam"``, ``"radam"``, ``"adagrad"``,
            ``"rmsprop"``, ``"adadelta"``, ``"lion"``, ``"rprop"`` or ``"lbfgs"`` with its
            defaults, or an object such as ``downslope.Adam(1e-3)``.
        epochs, batch_size, shuffle, sampling, sample_weight, class_weight, metrics, \
validation_data, validation_split, callbacks, on_divergence, threads, verbose
            See `Trainer.fit`.

        Returns
        -------
        History

        Raises
        ------
        TypeError, ValueError, RuntimeError, FloatingPointError, KeyboardInterrupt
            See `Trainer.fit`.

        Examples
        --------
        >>> import downslope as ds, numpy as np
        >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
        >>> net = ds.Network([1, 1], seed=0)
        >>> history = net.fit(x, 2 * x + 1, optimizer=ds.SGD(0.5), epochs=50)
        >>> np.allclose(net.parameters, [2, 1], atol=1e-4)
        True
        """
        from downslope.training import Trainer

        return Trainer(self, loss, optimizer).fit(
            X,
            y,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            sampling=sampling,
            sample_weight=sample_weight,
            class_weight=class_weight,
            metrics=metrics,
            validation_data=validation_data,
            validation_split=validation_split,
            callbacks=callbacks,
            on_divergence=on_divergence,
            threads=threads,
            verbose=verbose,
        )

    def diagnose(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | Loss = "mse",
        sample_weight: ArrayLike | None = None,
    ) -> Diagnosis:
        """Look for what keeps the network from learning; it is not changed.

        Dead units, saturated activations, vanishing and exploding gradients and unscaled inputs, in
        numbers for each layer and in words with what to try.  A few hundred rows are enough.

        Parameters
        ----------
        X : array (rows, inputs)
        y : array (rows, outputs), or (rows,) for one output or for class labels
        loss : str, default "mse"
            See `fit`.
        sample_weight : array (rows,), optional

        Returns
        -------
        Diagnosis
            To print, or to read: ``layers``, ``unscaled``, ``findings``.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as it should be.

        Examples
        --------
        >>> import downslope as ds, numpy as np
        >>> x = np.random.default_rng(0).normal(500, 100, size=(100, 3))
        >>> net = ds.Network([3, 8, 1], activation="tanh", seed=0)
        >>> print(net.diagnose(x, x[:, :1] / 500))
        loss ...
        layer  activation      dead  saturated   gradient    weights
            0  tanh  ...
            1  identity  ...
        Inputs are unscaled: columns 0, 1, 2 (3 of 3); ...
        """
        from downslope.diagnosis import diagnose

        return diagnose(self, X, y, loss=loss, sample_weight=sample_weight)

    # ---- Files ----

    def save(self, path: str | os.PathLike[str], *, metadata: dict[str, str] | None = None) -> None:
        """Write the network to a safetensors file, atomically.

        Parameters
        ----------
        path : path
            The file; one that is there is replaced whole, or left as it is if anything fails.
        metadata : dict of str to str, optional
            Kept beside the network's own `metadata`.

        Raises
        ------
        TypeError, ValueError
            If the metadata are not text, or have the key "downslope" or one that begins with
            "downslope.".
        OSError
            If the file can not be written.
        """
        from downslope.interop.safetensors import write_tensors
        from downslope.model_files import to_file

        write_tensors(path, *to_file(self, metadata or {}))

    def _views(self) -> list[NDArray[Any]]:
        """All weights and biases, in the order of the parameters."""
        pairs = [(layer.weights, layer.bias) for layer in self.layers]
        return [view for pair in pairs for view in pair if view is not None]

    def architecture(self) -> dict[str, Any]:
        """The network but for its parameters, as its file describes it."""
        return {
            "format": 1,
            "inputs": self.inputs,
            "dtype": self.dtype.name,
            "seed": self.seed,
            "input_dropout": self.input_dropout,
            "input_noise": self.input_noise,
            "layers": [
                {
                    "units": layer.units,
                    "activation": layer.activation.name,
                    "parameter": layer.activation.parameter,
                    "use_bias": layer.use_bias,
                    "shared_bias": layer.shared_bias,
                    **{name: getattr(layer, name) for name in TRAINING_OPTIONS},
                }
                for layer in self._dense
            ],
        }

    # ---- For the trainer ----

    @property
    def is_noisy(self) -> bool:
        """Whether its training has dropout or input noise."""
        dropped = any(layer.dropout for layer in self._dense)
        return bool(dropped or self.input_dropout or self.input_noise)

    def checked_loss(self, loss: str | Loss | LossFunction) -> Loss | LossFunction:
        """The loss, if it goes with this network's outputs."""
        if isinstance(loss, type):
            raise TypeError('give a loss, not the class: Loss("mse")')
        if callable(loss):
            return loss
        chosen = as_loss(loss)
        kind, last = chosen.kind, self.layers[-1].activation.name
        if kind.outputs and last not in kind.outputs:
            raise ValueError(
                f"loss {chosen.name!r} needs a network with "
                f"output={' or '.join(map(repr, kind.outputs))}; this one has {last!r}"
            )
        if self.outputs % kind.outputs_per_target:
            raise ValueError(
                f"loss {chosen.name!r} needs {kind.outputs_per_target} outputs for each target; "
                f"this network has {self.outputs}"
            )
        chosen.kernel_parameters(self.outputs)
        return chosen

    def dataset(
        self,
        X: ArrayLike,
        y: ArrayLike,
        loss: Loss | LossFunction,
        sample_weight: ArrayLike | None,
        suffix: str = "",
    ) -> Data:
        """Checked rows, targets and weights, as the engine takes them; or a function."""
        takes_any = isinstance(loss, Loss) and loss.kind.takes_any
        if takes_any and sample_weight is None:
            ready = _engine.ready_dataset(self._engine_plan, X, y)
            if ready is not None:
                return ready  # the usual case of a single step, quickly
        x = some_rows("X" + suffix, as_rows("X" + suffix, X, self.inputs, self.dtype))
        weight = as_weights(sample_weight, len(x), self.dtype)
        if not isinstance(loss, Loss):
            return Rows(loss, x, as_any_targets("y" + suffix, y, len(x)), weight)
        targets = as_targets("y" + suffix, y, len(x), self.outputs, loss, self.dtype)
        return _engine.Dataset(self._engine_plan, x, targets, weight)

    def mean_loss(self, data: Data, loss: Loss | LossFunction, threads: int) -> float:
        """The mean loss over the rows of a data set that `dataset` made for this loss."""
        if isinstance(data, Rows):
            return _own_loss.mean_loss(self, data, threads)
        assert isinstance(loss, Loss)
        losses = _plan.make_losses(loss, self.outputs)
        return self._inference.evaluate(data, losses[data.has_labels], threads) / data.rows

    # ---- Inside ----

    def _output_array(self, out: NDArray[Any] | None, x: NDArray[Any]) -> NDArray[Any]:
        shape = (len(x), self.outputs)
        if out is None:
            return np.empty(shape, self.dtype)
        if not isinstance(out, np.ndarray):
            raise TypeError(f"out must be a NumPy array; got {type(out).__name__}")
        if out.shape != shape or out.dtype != self.dtype or not out.dtype.isnative:
            raise ValueError(
                f"out must have shape {shape} and dtype {self.dtype}; "
                f"got {out.shape} and {out.dtype}"
            )
        if not out.flags.writeable:
            raise ValueError("out is read-only; give an array that can be written to")
        if not out.flags.c_contiguous or not out.flags.aligned:
            raise ValueError("out must be C-contiguous; give numpy.empty(shape, dtype)")
        if _kernels.overlap(out, x) or _kernels.overlap(out, self._parameters):
            raise ValueError("out overlaps X or the network's parameters; give memory of its own")
        return out

    def __getstate__(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "dense": self._dense,
            "dtype": self.dtype,
            "seed": self.seed,
            "input_dropout": self.input_dropout,
            "input_noise": self.input_noise,
            "metadata": self.metadata,
            "parameters": np.array(self._parameters),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.input_dropout, self.input_noise = state["input_dropout"], state["input_noise"]
        self._build(state["inputs"], state["dense"], state["dtype"], state["seed"])
        self.metadata = dict(state["metadata"])
        self._parameters[...] = state["parameters"]

    def _move_to(self, memory: NDArray[Any]) -> None:
        """Keep the parameters, and let them live in this memory (parameters,) from now on."""
        memory[...] = self._parameters
        metadata = self.metadata
        self._build(self.inputs, self._dense, self.dtype, self.seed, memory)
        self.metadata = metadata

    def __repr__(self) -> str:
        widths = [self.inputs, *(layer.outputs for layer in self.layers)]
        names = [layer.activation.name for layer in self.layers]
        hidden = f"activation={names[:-1]!r}, " if len(names) > 1 else ""
        return (
            f"Network({widths}, {hidden}output={names[-1]!r}, "
            f"dtype={self.dtype.name!r}, seed={self.seed})"
        )


def as_network(network: object) -> Network:
    """A network as it is, or an error that says what was given instead."""
    if not isinstance(network, Network):
        raise TypeError(f"network must be a downslope.Network; got {type(network).__name__}")
    return network
