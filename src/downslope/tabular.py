"""From the columns of a table to the numbers a network takes, and back.

A `TablePreprocessor` learns from the training rows how each column becomes features:

- a column of numbers is one feature, (value - mean) / standard deviation; missing values take the
  median first;
- a column of texts (or booleans) is one feature per category, 1 where the row has that category
  and 0 elsewhere; missing values are a category of their own if the training rows have any, and a
  category that they do not have is 0 everywhere;
- a column that can not help is left out, and named in `left_out` with the reason: constant, empty,
  dates, a count of the rows, or texts with too many values.

The target is a class number (rows,) int64, or a standardised number (rows, 1).  Everything learned
is plain numbers and texts: `to_dict` gives it for JSON, `from_dict` restores it exactly.  All
arithmetic is float64.  Needs pandas.
"""

from __future__ import annotations

import difflib
import gzip
import re
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Task = Literal["classification", "regression"]
FloatArray = NDArray[np.float64]

# More different texts than this in one column are taken for names or identifiers.
MAX_CATEGORIES = 50
# Whole numbers with at most this many different values are taken for classes.
MAX_INFERRED_CLASSES = 20
# A message names at most so many values.
_LISTED = 5
# Larger numbers than this overflow in sums and differences.
_LARGEST = 1e300
# Significant digits of a float32, which is what most networks give.
_DIGITS = 7
# The category of missing values; no text of a table is empty.
MISSING = ""

_SEPARATORS = ",;\t|"
# A field in quotes, where two of them stand for one; in other fields a quote is a character.
_QUOTED = r'(?<![^,;\t| ])"([^"]|"")*"'
_DATE = r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?"


def read_table(path: str | Path, text_columns: Iterable[str] | None = None) -> pd.DataFrame:
    """Read a CSV file whose first line names the columns.

    The separator (comma, semicolon, tab or bar) is the one that the first line has most of outside
    of quotes; empty lines before it are skipped.  Empty fields, `?` and what pandas takes for
    missing are missing; `.gz` files are unpacked.

    Parameters
    ----------
    path : str or Path
        The file.
    text_columns : iterable of str, optional
        Columns to keep as text, exactly as written; by default all that do not hold numbers alone.

    Raises
    ------
    ValueError
        If the file holds no table.
    OSError
        If the file can not be read.
    """
    try:
        frame = _parse(Path(path), text_columns)
    except pd.errors.ParserWarning as error:  # of fields that would be lost
        raise ValueError(
            f"{path}: the rows have more fields than the first line has names"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} is not a whole gzip file: copy or pack it again ({error})"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: save it as UTF-8 ({error})") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not a CSV table: {str(error).strip()}") from error
    if frame.empty:
        raise ValueError(f"{path} holds no rows under its first line")
    return frame


def _parse(path: Path, text_columns: Iterable[str] | None) -> pd.DataFrame:
    options: dict[str, Any] = {
        "sep": _separator(path),
        "skipinitialspace": True,
        "na_values": ["?"],
        "low_memory": False,
        "index_col": False,  # else the first fields of rows with too many become their names
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        if text_columns is None:
            frame = pd.read_csv(path, **options)
            text_columns = [str(name) for name in frame.columns if not _is_numeric(frame[name])]
        return pd.read_csv(path, dtype=dict.fromkeys(text_columns, "str"), **options)


def _separator(path: Path) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        header = next((line for line in file if line.strip()), "")
    return max(_SEPARATORS, key=re.sub(_QUOTED, "", header).count)


def infer_task(target: pd.Series) -> tuple[Task, str]:
    """Tell classification from regression by the values of the target, and say why.

    Examples
    --------
    >>> infer_task(pd.Series(["cat", "dog"], name="animal"))
    ('classification', 'the values are texts')
    >>> infer_task(pd.Series([0.5, 1.25, 3.0], name="price"))
    ('regression', 'the values are numbers with fractions')
    """
    if not _is_numeric(target):
        return "classification", "the values are texts"
    numbers = target.dropna().to_numpy(dtype=np.float64)
    if np.any(numbers != np.floor(numbers)):
        return "regression", "the values are numbers with fractions"
    different = len(np.unique(numbers))
    if different <= max(2, min(MAX_INFERRED_CLASSES, len(numbers) // 10)):
        return "classification", f"the values are {different} different whole numbers"
    return "regression", f"the values are numbers, {different} different ones"


@dataclass(frozen=True)
class NumericColumn:
    """One feature: (value - mean) / scale, with the median for missing values."""

    name: str
    median: float
    mean: float
    scale: float

    @classmethod
    def fit(cls, column: pd.Series) -> NumericColumn:
        values = _numbers(column)
        median = float(np.nanmedian(values))
        filled = np.where(np.isnan(values), median, values)
        return cls(str(column.name), median, *_mean_and_scale(column.name, filled))

    def __str__(self) -> str:
        return f"number: {_spread(self.mean, self.scale)}, median {self.median:.6g} where missing"

    @property
    def features(self) -> list[str]:
        return [self.name]

    def encode(self, column: pd.Series) -> FloatArray:
        """Features of the rows, (rows, 1)."""
        values = _numbers(column)
        filled = np.where(np.isnan(values), self.median, values)
        return ((filled - self.mean) / self.scale)[:, np.newaxis]

    def remarks(self, column: pd.Series) -> list[str]:
        """What `encode` makes up for."""
        missing = int(np.isnan(_numbers(column)).sum())
        filled = f"{_count(missing, 'missing value')} filled with the median {self.median:g}"
        return [f"column {self.name!r}: {filled}"] if missing else []


@dataclass(frozen=True)
class CategoricalColumn:
    """One feature per category, 1 where the row has it; `MISSING` may be among them."""

    name: str
    categories: list[str]

    @classmethod
    def fit(cls, column: pd.Series) -> CategoricalColumn:
        return cls(str(column.name), sorted(set(_texts(column))))

    def __str__(self) -> str:
        return "one of: " + ", ".join(category or "missing" for category in self.categories)

    @property
    def features(self) -> list[str]:
        return [f"{self.name}={category or 'missing'}" for category in self.categories]

    def encode(self, column: pd.Series) -> FloatArray:
        """Features of the rows, (rows, categories)."""
        has = _texts(column)[:, np.newaxis] == np.array(self.categories, object)
        return np.asarray(has, dtype=np.float64)

    def remarks(self, column: pd.Series) -> list[str]:
        """What `encode` makes up for."""
        texts = _texts(column)
        unseen = sorted(set(texts) - set(self.categories))
        if not unseen:
            return []
        rows = int(np.isin(texts, unseen).sum())
        names = _listed([text or "missing" for text in unseen])
        taken = f"taken as none of the known categories in {_count(rows, 'row')}"
        return [f"column {self.name!r}: not in the training rows, {taken}: {names}"]


@dataclass(frozen=True)
class ClassTarget:
    """Class labels, numbered in sorted order."""

    name: str
    classes: list[str]
    # Whether the labels are to be read as written: 01 is then not 1, and true not True.
    text: bool = False

    @classmethod
    def fit(cls, column: pd.Series) -> ClassTarget:
        labels = _class_labels(column)
        classes = sorted(set(labels), key=_numbers_first)
        if len(classes) < 2:
            raise ValueError(
                f"target {column.name!r} has only the class {classes[0]!r}: "
                f"classification needs two or more"
            )
        return cls(str(column.name), classes, text=not _is_numeric(column))

    def __str__(self) -> str:
        return "class, one of: " + ", ".join(self.classes)

    @property
    def task(self) -> Task:
        return "classification"

    @property
    def outputs(self) -> int:
        return len(self.classes)

    @property
    def digits(self) -> int:
        """Significant digits to write probabilities with."""
        return _DIGITS

    def values(self, column: pd.Series) -> NDArray[Any]:
        """Labels as `decode` gives them, (rows,)."""
        return _class_labels(column)

    def encode(self, column: pd.Series) -> NDArray[np.int64]:
        """Class numbers, (rows,)."""
        labels = self.values(column)
        unknown = sorted(set(labels) - set(self.classes))
        if unknown:
            raise ValueError(
                f"target {self.name!r}: classes that the training rows do not have: "
                f"{_listed(unknown)}"
            )
        number = {label: i for i, label in enumerate(self.classes)}
        return np.array([number[label] for label in labels], np.int64)

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Labels of the most probable classes; outputs (rows, classes)."""
        return np.array([self.classes[i] for i in outputs.argmax(axis=1)], object)


@dataclass(frozen=True)
class NumericTarget:
    """Numbers, standardised."""

    name: str
    mean: float
    scale: float

    @classmethod
    def fit(cls, column: pd.Series) -> NumericTarget:
        values = _numbers(column)
        if values.min() == values.max():
            raise ValueError(f"target {column.name!r} is {values[0]:g} in every row")
        return cls(str(column.name), *_mean_and_scale(column.name, values))

    def __str__(self) -> str:
        return f"number: {_spread(self.mean, self.scale)}"

    @property
    def task(self) -> Task:
        return "regression"

    @property
    def classes(self) -> list[str]:
        return []

    @property
    def outputs(self) -> int:
        return 1

    @property
    def digits(self) -> int:
        """Significant digits to write predictions with: enough for small differences between
        large numbers, such as times."""
        return _DIGITS + int(np.log10(max(1.0, abs(self.mean) / self.scale)))

    def values(self, column: pd.Series) -> NDArray[Any]:
        """Numbers as `decode` gives them, (rows,)."""
        return _numbers(column)

    def encode(self, column: pd.Series) -> FloatArray:
        """Standardised numbers, (rows, 1)."""
        return ((self.values(column) - self.mean) / self.scale)[:, np.newaxis]

    def decode(self, outputs: NDArray[Any]) -> FloatArray:
        """Numbers in the target's unit, (rows,); outputs (rows, 1)."""
        return outputs[:, 0].astype(np.float64) * self.scale + self.mean


class TablePreprocessor:
    """Turn the rows of a table into a network's inputs and targets, and its outputs back.

    Parameters
    ----------
    target : str
        Name of the column to predict.
    task : {"auto", "classification", "regression"}, default "auto"
        "auto" takes what `infer_task` says.

    Attributes
    ----------
    columns : list of NumericColumn or CategoricalColumn
        The columns in use, in the table's order.
    target : ClassTarget or NumericTarget
        The target, once fitted.
    left_out : dict of str to str
        The columns that `fit` left out, and why.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "mass": [1.0, 2.0, None, 3.0],
    ...         "island": ["Dream", "Dream", "Biscoe", "Biscoe"],
    ...         "species": ["Gentoo", "Adelie", "Gentoo", "Adelie"],
    ...     }
    ... )
    >>> preprocessor = TablePreprocessor("species").fit(table)
    >>> preprocessor.features
    ['mass', 'island=Biscoe', 'island=Dream']
    >>> preprocessor.transform(table).shape
    (4, 3)
    >>> preprocessor.transform_target(table)
    array([1, 0, 1, 0])
    """

    def __init__(self, target: str, task: Literal[Task, "auto"] = "auto") -> None:
        if task not in ("auto", "classification", "regression"):
            raise ValueError(f"task must be auto, classification or regression; got {task!r}")
        self.target_name = target
        self._task = task
        self.columns: list[NumericColumn | CategoricalColumn] = []
        self.left_out: dict[str, str] = {}
        self.target: ClassTarget | NumericTarget

    def fit(self, table: pd.DataFrame) -> TablePreprocessor:
        """Learn from the training rows; returns self.

        Raises
        ------
        ValueError
            If the target is absent, has missing values or only one value, or no other column can
            be learned from.
        """
        check_target(table, self.target_name)
        column = table[self.target_name]
        task = infer_task(column)[0] if self._task == "auto" else self._task
        target = (ClassTarget if task == "classification" else NumericTarget).fit(column)
        left_out = useless_columns(table, self.target_name)
        names = table.columns.drop([self.target_name, *left_out])
        if names.empty:
            reasons = (f"{name!r}: {reason}" for name, reason in left_out.items())
            raise ValueError("no column is left to learn from; " + "; ".join(reasons))
        self.columns = [
            (NumericColumn if _is_numeric(table[name]) else CategoricalColumn).fit(table[name])
            for name in names
        ]
        self.target, self.left_out = target, left_out
        return self

    @property
    def task(self) -> Task:
        """What the target makes of it."""
        return self.target.task

    @property
    def features(self) -> list[str]:
        """Names of the network's inputs: `column`, or `column=category`."""
        return [feature for column in self.columns for feature in column.features]

    @property
    def text_columns(self) -> list[str]:
        """Names of the columns to read as text, for `read_table`: categories and labels."""
        names = [column.name for column in self.columns if isinstance(column, CategoricalColumn)]
        labels = isinstance(self.target, ClassTarget) and self.target.text
        return [*names, self.target.name] if labels else names

    def transform(self, table: pd.DataFrame) -> FloatArray:
        """Inputs of the network, (rows, features).

        Raises
        ------
        ValueError
            If columns are absent, or a column of numbers holds something else.
        """
        self._check_columns(table)
        return np.hstack([column.encode(table[column.name]) for column in self.columns])

    def remarks(self, table: pd.DataFrame) -> list[str]:
        """What `transform` makes up for in this table: missing values, unseen categories."""
        self._check_columns(table)
        return [r for column in self.columns for r in column.remarks(table[column.name])]

    def unused(self, table: pd.DataFrame) -> list[str]:
        """Columns of this table that are neither read nor the target."""
        known = {self.target.name, *(column.name for column in self.columns)}
        return [str(name) for name in table.columns if name not in known]

    def transform_target(self, table: pd.DataFrame) -> NDArray[Any]:
        """Class numbers (rows,) int64, or standardised numbers (rows, 1) float64."""
        check_target(table, self.target.name)
        return self.target.encode(table[self.target.name])

    def target_values(self, table: pd.DataFrame) -> NDArray[Any]:
        """The target's column as `inverse_target` gives it, (rows,)."""
        check_target(table, self.target.name)
        return self.target.values(table[self.target.name])

    def inverse_target(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Class labels, or numbers in the target's unit, (rows,); outputs (rows, outputs)."""
        return self.target.decode(outputs)

    def to_dict(self) -> dict[str, Any]:
        """Everything learned, as JSON can hold it."""
        return {"target": asdict(self.target), "columns": [asdict(c) for c in self.columns]}

    @classmethod
    def from_dict(cls, learned: dict[str, Any]) -> TablePreprocessor:
        """The preprocessor that `to_dict` was called on, without `left_out`."""
        target = learned["target"]
        restored = (ClassTarget if "classes" in target else NumericTarget)(**target)
        preprocessor = cls(restored.name, restored.task)
        preprocessor.target = restored
        preprocessor.columns = [
            (CategoricalColumn if "categories" in column else NumericColumn)(**column)
            for column in learned["columns"]
        ]
        return preprocessor

    def _check_columns(self, table: pd.DataFrame) -> None:
        absent = [column.name for column in self.columns if column.name not in table]
        if absent:
            raise ValueError(
                f"the table lacks {_count(len(absent), 'column')} that the model was trained on: "
                f"{_listed(absent)}; it has: {_listed(table.columns)}"
            )


def check_target(table: pd.DataFrame, target: str) -> None:
    """Raise ValueError unless `target` is a column without missing values."""
    if target not in table:
        close = difflib.get_close_matches(target, [str(name) for name in table], n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"columns: {_listed(table.columns)}"
        raise ValueError(f"there is no column {target!r}; {hint}")
    missing = np.flatnonzero(table[target].isna())
    if len(missing):
        rows = _listed(missing + 1, quote=False)
        raise ValueError(
            f"target {target!r} is missing in {_count(len(missing), 'row')} (data row {rows}): "
            f"fill or remove them"
        )


def useless_columns(table: pd.DataFrame, target: str) -> dict[str, str]:
    """The columns beside the target that nothing can be learned from, and why."""
    reasons = {str(name): _why_useless(table[name]) for name in table.columns.drop(target)}
    return {name: reason for name, reason in reasons.items() if reason}


def _why_useless(column: pd.Series) -> str | None:
    """Why nothing can be learned from a column, or None if something can."""
    present = column.dropna()
    different = present.nunique()
    if different == 0:
        return "every value is missing"
    if _is_numeric(column):
        return _why_useless_numbers(column, different)
    if different == 1 and len(present) == len(column):
        return f"every value is {present.iloc[0]!r}"
    if pd.api.types.is_datetime64_any_dtype(column) or _mostly(present, _DATE):
        return "it holds dates (make numbers of them first: a year, a month, days since)"
    if different > MAX_CATEGORIES or different == len(present) > 2:
        _refuse_spoilt_numbers(present)
        return f"{different} different texts in {len(present)} rows look like names"
    return None


def _why_useless_numbers(column: pd.Series, different: int) -> str | None:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if different == 1:
        return f"every value is {np.nanmin(values):g}"
    if values[0] in (0.0, 1.0) and len(values) > 2 and np.all(np.diff(values) == 1.0):
        return "it counts the rows"
    return None


def _mostly(present: pd.Series, pattern: str) -> bool:
    return bool(present.astype(str).str.fullmatch(pattern).mean() > 0.9)


def _refuse_spoilt_numbers(present: pd.Series) -> None:
    """Raise ValueError for a column of numbers that has become text by a few odd values."""
    odd = present[pd.to_numeric(present, errors="coerce").isna()]
    if 0 < len(odd) < len(present) / 2:  # none: whole numbers too long for numbers, such as keys
        raise ValueError(
            f"column {present.name!r} holds numbers and {_count(len(odd), 'other value')} "
            f"({_listed(odd.unique())}): correct them, or leave them empty"
        )


def _is_numeric(column: pd.Series) -> bool:
    types = pd.api.types
    return types.is_numeric_dtype(column) and not types.is_bool_dtype(column)


def _numbers(column: pd.Series) -> FloatArray:
    """The values as float64, NaN where missing."""
    numbers = pd.to_numeric(column, errors="coerce")
    odd = column[numbers.isna() & column.notna()]
    if len(odd):
        raise ValueError(f"column {column.name!r} must hold numbers; got {_listed(odd.unique())}")
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    if (np.abs(values) > _LARGEST).any():
        raise ValueError(
            f"column {column.name!r} holds infinite values, or such beyond {_LARGEST:g}: leave "
            "them empty, or take a larger unit"
        )
    return values


def _mean_and_scale(name: object, values: FloatArray) -> tuple[float, float]:
    """The mean and the standard deviation, whose squares neither overflow nor vanish."""
    # by a power of two, which leaves every bit of usual numbers as it is
    exponent = int(np.frexp(np.abs(values).max())[1])
    near_one = np.ldexp(values, -exponent)
    mean, scale = np.ldexp([near_one.mean(), near_one.std()], exponent).tolist()
    if scale < np.finfo(np.float64).tiny:
        raise ValueError(
            f"column {name!r} holds numbers that differ by {scale:g}, too little to divide by: "
            "take a smaller unit"
        )
    return mean, scale


def _texts(column: pd.Series) -> NDArray[np.object_]:
    """The values as texts, `MISSING` where missing."""
    texts = column.astype(object).where(column.notna(), MISSING)
    return np.array([str(value).strip() for value in texts], object)


def _class_labels(column: pd.Series) -> NDArray[np.object_]:
    """The values as texts; whole numbers as such, 1 and not 1.0."""
    if not _is_numeric(column):
        return _texts(column)
    values = _numbers(column).tolist()
    return np.array([str(int(v) if v.is_integer() else v) for v in values], object)


def _numbers_first(label: str) -> tuple[float, str]:
    """Sorting key: numbers by size, then texts."""
    try:
        return float(label), label
    except ValueError:
        return np.inf, label


def _spread(mean: float, scale: float) -> str:
    return f"mean {mean:.6g}, standard deviation {scale:.6g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _listed(values: Iterable[Any], *, quote: bool = True) -> str:
    """The first few values, separated by commas."""
    texts = [repr(str(value)) if quote else str(value) for value in values]
    more = len(texts) - _LISTED
    return ", ".join(texts[:_LISTED]) + (f" and {more} more" if more > 0 else "")
