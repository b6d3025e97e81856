"""What comes in from callers: names, counts, arrays.  Every check is made before anything changes.

Arrays leave here as the engine takes them: the network's float type, native byte order, two axes
with contiguous columns (rows may be apart: a slice of rows is used where it lies), finite.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from downslope import _kernels

if TYPE_CHECKING:
    from downslope.losses import Loss


def choose(
    what: str, name: object, choices: Iterable[str], elsewhere: Mapping[str, str] | None = None
) -> str:
    """`name` if it is one of the choices, else an error that suggests what it is called here, for
    a name of other libraries that is in `elsewhere`, or the closest.

    Raises
    ------
    TypeError
        If `name` is not a string.
    ValueError
        If it is not one of the choices.
    """
    names = list(choices)
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a name (one of {', '.join(names)}); got {name!r}")
    if name in names:
        return name
    import difflib  # takes time to import

    plain = name.lower().replace("-", "_").replace(" ", "_")
    here = (elsewhere or {}).get(plain)
    if here is not None:
        hint = f"here it is {here!r}; " if here in names else f"here it is {here}; "
    else:
        close = difflib.get_close_matches(plain, names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown {what} {name!r}; {hint}choose one of: {', '.join(names)}")


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called, with its module; of other callables, the type.  Unlike their
    `repr`, which may hold an address, it is the same in every process."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(named, '__module__', None)}.{named.__qualname__}"


def as_count(name: str, value: object, *, at_least: int = 1) -> int:
    """A whole number of at least `at_least`, or an error that names the argument."""
    if type(value) is int and value >= at_least:
        return value  # the usual case, quickly
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}; got {value!r}")
    return int(value)


def as_number(
    name: str,
    value: object,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    below: float = math.inf,
) -> float:
    """A finite number within the bounds given, or an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number; got {value!r}")
    number = float(value)
    if not (math.isfinite(number) and above < number < below and number >= at_least):
        bounds = [("above", above), ("at least", at_least), ("below", below)]
        wanted = " and".join(f" {word} {bound:g}" for word, bound in bounds if math.isfinite(bound))
        raise ValueError(f"{name} must be a finite number{wanted}; got {value!r}")
    return number


def as_seed(seed: object) -> int:
    """A whole number from 0 to 2**64 - 1; drawn at random for None."""
    if seed is None:
        return int.from_bytes(os.urandom(8), "little")
    value = as_count("seed", seed, at_least=0)
    if value >= 1 << 64:
        raise ValueError(f"seed must be below 2**64; got {seed!r}")
    return value


def as_float_type(dtype: Any) -> np.dtype[Any]:
    """float32 or float64, or an error."""
    error = ValueError(f"dtype must be 'float32' or 'float64'; got {dtype!r}")
    if dtype is None:  # which NumPy takes for float64
        raise error
    try:
        resolved = np.dtype(dtype)
    except TypeError:
        raise error from None
    if resolved not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise error
    return resolved


def as_rows(name: str, values: Any, columns: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A matrix (rows, columns); copied only where type or layout ask for it.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If the shape is wrong or a value is not finite.
    """
    if _kernels.is_ready(values, columns, dtype):
        return cast("NDArray[Any]", values)  # the usual case, quickly
    array = as_numeric(name, values)
    if array.ndim == 1 and columns == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2 or array.shape[1] != columns:
        hint = ""
        if array.ndim == 1 and array.size == columns:
            hint = f"; for a single row give {name}.reshape(1, -1)"
        elif array.ndim > 2 and math.prod(array.shape[1:]) == columns:
            hint = f"; flatten the rows: {name}.reshape(len({name}), -1)"
        raise ValueError(f"{name} must have shape (rows, {columns}); got {array.shape}{hint}")
    return as_finite(name, to_layout(array, dtype))


def some_rows(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array itself, if it has rows."""
    if len(array) == 0:
        raise ValueError(f"{name} has no rows; give at least one")
    return array


def as_row(name: str, values: Any, columns: int) -> NDArray[Any]:
    """A single row of values (columns,), as a matrix (1, columns)."""
    array = as_numeric(name, values)
    if array.shape != (columns,):
        raise ValueError(f"{name} must be one row, of shape ({columns},); got {array.shape}")
    return array.reshape(1, columns)


def as_point(name: str, values: Any) -> NDArray[np.float64]:
    """A finite number or array of any shape but an empty one, as a float64 copy."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be a number or an array of numbers; got {values!r}")
    if array.size == 0:
        raise ValueError(f"{name} is empty; give at least one variable")
    point = array.astype(np.float64, order="C")
    if not np.isfinite(point).all():
        raise ValueError(f"{name} must be finite; found NaN or infinity")
    return point


def as_vector(name: str, values: Any, rows: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A finite vector (rows,) of the float type."""
    array = as_numeric(name, values)
    if array.shape != (rows,):
        raise ValueError(
            f"{name} must have shape ({rows},), one value for each row; got {array.shape}"
        )
    return as_finite(name, to_layout(array.reshape(-1, 1), dtype)).reshape(-1)


def as_weights(values: Any, rows: int, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Sample weights (rows,), finite and not negative; None stays None."""
    if values is None:
        return None
    weights = np.ascontiguousarray(as_vector("sample_weight", values, rows, dtype))
    if weights.size and weights.min() < 0:
        raise ValueError(f"sample_weight must not be negative; found {weights.min():g}")
    return weights


def as_targets(
    name: str, values: Any, rows: int, outputs: int, loss: Loss, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Targets (rows, columns) of the float type, as the loss takes them for so many outputs; or
    labels (rows,) int64 for a loss with labels."""
    array, kind = as_numeric(name, values), loss.kind
    _check_rows(name, array, rows)
    if kind.label_kernel is not None and (array.ndim == 1 or array.shape[1:] == (1,)):
        return _as_labels(name, array.reshape(-1), outputs)
    columns = outputs // kind.outputs_per_target
    if kind.repeats_target and (array.ndim == 1 or array.shape[1:] == (1,)):
        array = np.repeat(array.reshape(-1, 1), columns, axis=1)
    if array.ndim == 1 and array.dtype.kind in "iu" and columns > 1:
        raise ValueError(
            f"{name} must have shape (rows, {columns}) for loss {loss.name!r}; got {array.shape}: "
            "class labels go with loss='cross_entropy' and output='softmax'"
        )
    targets = as_rows(name, array, columns, dtype)
    fit, demand, mending = TARGETS[kind.targets]
    if not _all_chunks(targets, fit):
        raise ValueError(f"{demand.format(name)} for loss {loss.name!r}{mending}")
    return targets


def as_any_targets(name: str, values: Any, rows: int) -> NDArray[Any]:
    """An array with one entry for each row, as it is: what it means is for a function to say."""
    array = np.asarray(values)
    _check_rows(name, array, rows)
    return array


def _check_rows(name: str, array: NDArray[Any], rows: int) -> None:
    if array.shape[:1] != (rows,):
        raise ValueError(
            f"X{name.removeprefix('y')} and {name} must have as many rows; "
            f"got {rows} and {array.shape}"
        )


def as_numeric(name: str, values: Any) -> NDArray[Any]:
    """An array of real numbers (or booleans) with at least one axis."""
    if type(values) is np.ndarray and values.dtype.kind in "biuf" and values.ndim:
        return values  # the usual case, quickly
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError(f"{name} is a sparse matrix; give a dense one: {name}.toarray()")
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} has masked values; drop such rows, or fill them: {name}.filled(0)"
        )
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is not a rectangular array: {error}") from None
    except (RuntimeError, TypeError) as error:  # a tensor with a gradient, or on another device
        raise TypeError(f"{name} can not be read as a NumPy array: {error}") from None
    if array.dtype.kind == "O" and hasattr(values, "to_numpy"):
        array = _from_columns(values, array)
    if array.dtype.kind not in "biuf":
        found = type(values).__name__ if array.ndim == 0 else _not_numbers(name, array)
        raise TypeError(f"{name} must hold real numbers; got {found}")
    if array.ndim == 0:
        raise ValueError(f"{name} must be an array with rows; got the number {array!s}")
    return array


def _not_numbers(name: str, array: NDArray[Any]) -> str:
    """What an array holds instead of numbers, and how to make numbers of it."""
    found = f"dtype {array.dtype}"
    if array.dtype.kind == "O":
        odd = next((value for value in array.flat if isinstance(value, _NOT_NUMBERS)), None)
        found += "" if odd is None else f", such as {odd!r}"
    if array.dtype.kind not in "OSU":
        return found
    way = "for example with .astype(float)"
    if name.startswith("y"):
        way += f"; class labels with numpy.unique({name}, return_inverse=True)[1]"
    return f"{found} (convert it first, {way})"


#: What pandas and polars make numbers of, nanoseconds of dates too, if asked for floats.
_NOT_NUMBERS = (str, bytes, date, timedelta, np.datetime64, np.timedelta64)


def _from_columns(frame: Any, array: NDArray[Any]) -> NDArray[Any]:
    """The numbers of a data frame whose columns differ in type or have missing values, which NumPy
    takes for objects; `array` if they are none."""
    if any(issubclass(kind, _NOT_NUMBERS) for kind in set(map(type, array.flat))):
        return array
    try:
        integers = frame.dtype.kind in "iu"  # a column of integers that could have missing values
        return frame.to_numpy(dtype=np.int64) if integers else frame.to_numpy(dtype=np.float64)
    except (AttributeError, TypeError, ValueError):
        pass
    try:
        return frame.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        return array


def to_layout(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A 2-d array of the float type with contiguous columns and rows whole elements apart."""
    if array.dtype == dtype and array.dtype.isnative and _has_layout(array):
        return array
    with np.errstate(over="ignore"):  # what overflows is found by the check that follows
        return np.array(array, dtype=dtype, order="C")


def _has_layout(array: NDArray[Any]) -> bool:
    """Whether the columns of a 2-d array are contiguous, and its rows whole elements apart."""
    flags, item = array.flags, array.itemsize
    columns_fit = array.shape[1] <= 1 or array.strides[1] == item
    rows_fit = array.shape[0] <= 1 or (array.strides[0] % item == 0 and array.strides[0] > 0)
    return flags.aligned and (flags.c_contiguous or (columns_fit and rows_fit))


def as_finite(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array itself, if all of it is finite."""
    for first, chunk in _chunks(array):
        row = _kernels.first_not_finite(chunk)
        if row >= 0:
            raise ValueError(
                f"{name} must be finite (no NaN, no infinity, within the range of {array.dtype}); "
                f"row {first + row} is not: drop or fill such rows"
            )
    return array


def as_memory(name: str, memory: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The caller's memory as a writable array, never a copy of it.

    Raises
    ------
    TypeError
        If it is no array, and offers neither the buffer protocol nor DLPack.
    ValueError
        If its shape, type or layout is not as it should be, or it is read-only.
    """
    array = _array_over(name, memory)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {array.shape}")
    if array.dtype != dtype or not array.dtype.isnative:
        raise ValueError(
            f"{name} must be of type {dtype}, in the machine's byte order, because it is used in "
            f"place; got {array.dtype!r}"
        )
    if not _has_layout(np.atleast_2d(array)):
        raise ValueError(
            f"{name} must be aligned and contiguous along its last axis, because it is used "
            f"in place; got strides {array.strides}"
        )
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only; give memory that can be written to")
    return array


def check_apart(**memories: NDArray[Any] | None) -> None:
    """Refuse memory that the first of these arrays shares with another; None: no array.

    Rows may lie apart, with the other between them: `_kernels.overlap`, which is for every
    `predict`, knows only where an array begins and ends.
    """
    (name, first), *others = memories.items()
    for other_name, other in others:
        if first is not None and other is not None and np.shares_memory(first, other):
            raise ValueError(f"{name} and {other_name} overlap; give each memory of its own")


def _array_over(name: str, memory: Any) -> NDArray[Any]:
    """An array over the memory of an object."""
    if isinstance(memory, np.ndarray):
        return memory
    try:
        return np.asarray(memoryview(memory))
    except TypeError:
        pass
    if not hasattr(memory, "__dlpack__"):
        raise TypeError(
            f"{name} must be an array, or an object with the buffer protocol or DLPack; "
            f"got {type(memory).__name__}"
        )
    try:
        return np.from_dlpack(memory)
    except (BufferError, RuntimeError, TypeError) as error:
        raise TypeError(f"{name} gives no access to its memory: {error}") from error


def _chunks(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The array in chunks of rows, each with the number of its first row."""
    if array.size <= _kernels.LOOK_SIZE:
        yield 0, array
        return
    step = max(1, _kernels.LOOK_SIZE // max(1, array.shape[1]))
    for first in range(0, len(array), step):
        yield first, array[first : first + step]


def _all_chunks(array: NDArray[Any], check: Any) -> bool:
    """Whether `check` holds for every chunk of rows."""
    return all(check(chunk) for _, chunk in _chunks(array))


#: What a loss may ask of dense targets: the check, the demand, and how to mend what fails it.
TARGETS: dict[str, tuple[Callable[[NDArray[Any]], Any], str, str]] = {
    "real": (lambda rows: True, "", ""),
    "fractions": (
        lambda rows: (rows >= 0).all() and (rows <= 1).all(),
        "{} must lie in [0, 1]",
        "",
    ),
    "indicators": (lambda rows: np.isin(rows, (0, 1)).all(), "{} must be 0 or 1", ""),
    "signs": (
        lambda rows: np.isin(rows, (-1, 1)).all(),
        "{} must be -1 or 1",
        "; from 0 and 1 make them by 2 * y - 1",
    ),
    "counts": (lambda rows: (rows >= 0).all(), "{} must not be negative", ""),
    "probabilities": (
        lambda rows: (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3),
        "the rows of {} must be probabilities (not negative, with sum 1)",
        "; for class labels give integers of shape (rows,)",
    ),
}


def _as_labels(name: str, labels: NDArray[Any], outputs: int) -> NDArray[np.int64]:
    """Class labels as int64, each in 0 .. outputs - 1."""
    if labels.dtype.kind == "f":
        missing = np.flatnonzero(~np.isfinite(labels))
        if missing.size:
            raise ValueError(f"row {missing[0]} of {name} has no class label: drop such rows")
        raise TypeError(
            f"class labels in {name} must be integers; got dtype {labels.dtype}: "
            f"give {name}.astype(int)"
        )
    codes = np.ascontiguousarray(labels, dtype=np.int64)
    if codes.size == 0:
        return codes
    if labels.dtype == np.uint64:  # may not fit the codes
        least, greatest = int(labels.min()), int(labels.max())
    else:
        least, greatest = _kernels.label_range(codes)
    if least < 0 or greatest >= outputs:
        raise ValueError(
            f"class labels in {name} must lie in 0 .. {outputs - 1}, one for each output; "
            f"found {least} .. {greatest}"
        )
    return codes
