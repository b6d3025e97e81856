"""The `downslope` command: its arguments, and how a command ends.

Each command is a module of this package with a function `run(arguments)`, imported only when it is
called, because rich, pandas and matplotlib come with the extra `cli`.

Exit status: 0; 2 for a mistake in the arguments or the data, told in one line on stderr; 130 for
Ctrl-C.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from downslope.cases import CASES

_DONE, _MISTAKE, _INTERRUPTED = 0, 2, 130

# The names of the networks to time.
_CASES = "".join(case.name for case in CASES)

# The options that take a list of numbers, and how one begins that would look like an option.
_LISTS = ("--input", "--target")
_NEGATIVE = re.compile(r"-\.?\d")

# What each command needs of the extra.
_NEEDS = {
    "demo": ("rich", "matplotlib"),
    "train": ("rich", "pandas"),
    "predict": ("rich", "pandas"),
    "explain": (),
    "bench": ("rich",),
    "info": ("rich",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the program's own arguments); returns the exit status.

    Raises
    ------
    SystemExit
        For `--help`, and with status 2 for arguments that can not be parsed.
    """
    arguments = _parser().parse_args(_with_negative_lists(sys.argv[1:] if argv is None else argv))
    try:
        _require(_NEEDS[arguments.command])
        import_module(f".{arguments.command}", __name__).run(arguments)
    except KeyboardInterrupt:
        print("downslope: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough, as in `downslope predict ... | head`: the rest goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        print(f"downslope: error: {_one_line(error)}", file=sys.stderr)
        return _MISTAKE
    return _DONE


def _with_negative_lists(argv: Sequence[str]) -> list[str]:
    """`--input -0.5,1` as `--input=-0.5,1`: argparse takes a list that begins with a minus for an
    option."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in _LISTS and _NEGATIVE.match(argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _require(modules: Sequence[str]) -> None:
    if any(find_spec(module) is None for module in modules):
        raise ImportError('this command needs the extra: python -m pip install "downslope[cli]"')


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_MISTAKE, f"downslope: error: {message} (see {self.prog} --help)\n")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults, where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="downslope", description="Feed-forward neural networks on the CPU.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for add, name, description in (
        (_add_demo, "demo", "train a classifier of handwritten digits, against NumPy's time"),
        (_add_train, "train", "train a network on a CSV table"),
        (_add_predict, "predict", "predict a column of a CSV table with a trained network"),
        (_add_explain, "explain", "show one step of training, number by number"),
        (_add_bench, "bench", "time training on this machine beside NumPy, in about two minutes"),
        (_add_info, "info", "show this installation, or what a model file holds"),
    ):
        add(
            commands.add_parser(
                name,
                help=description,
                description=f"{description[0].upper()}{description[1:]}.",
                formatter_class=_Help,
            )
        )
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--epochs", type=_positive, default=300, help="at most so many passes over the images"
    )
    parser.add_argument("--seed", type=_natural, default=0, help="of the initial weights and order")
    parser.add_argument("--threads", type=_positive, default=1, help="for downslope and for NumPy")
    parser.add_argument("--output-dir", type=Path, default=Path(), help="for model and picture")
    parser.add_argument(
        "--no-baseline", action="store_true", help="do not train the NumPy implementation"
    )


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=Path, help="CSV file; its first line names the columns")
    parser.add_argument("--target", required=True, help="the column to predict")
    parser.add_argument(
        "--output", type=Path, default=Path("model.safetensors"), help="where to save the model"
    )
    parser.add_argument(
        "--task",
        choices=("auto", "classification", "regression"),
        default="auto",
        help="auto: by the values of the target",
    )
    parser.add_argument(
        "--hidden", type=_widths, default="64,32", help="units of each hidden layer, or none"
    )
    parser.add_argument("--activation", default="relu", help="of the hidden layers")
    parser.add_argument("--epochs", type=_positive, default=300, help="at most so many")
    parser.add_argument("--batch-size", type=_positive, default=32, help="rows per step")
    parser.add_argument(
        "--optimizer", choices=("adam", "sgd", "momentum", "nesterov"), default="adam"
    )
    parser.add_argument("--learning-rate", type=_above_zero, default=0.001, help="size of a step")
    parser.add_argument(
        "--validation-fraction", type=_fraction, default=0.2, help="share of the rows set aside"
    )
    parser.add_argument(
        "--patience",
        type=_positive,
        default=20,
        help="stop after so many epochs without a lower validation loss",
    )
    parser.add_argument(
        "--seed", type=_natural, default=0, help="of the split, the initial weights and the order"
    )
    parser.add_argument("--threads", type=_positive, help="at most so many")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="file saved by downslope train")
    parser.add_argument("table", type=Path, help="CSV file with the columns of the training table")
    parser.add_argument("--output", type=Path, help="CSV file to write, else standard output")
    parser.add_argument(
        "--probabilities", action="store_true", help="add the probability of each class"
    )


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", type=Path, help="file saved by Network.save, else the worked example"
    )
    parser.add_argument("--input", type=_numbers, help="the row, such as 0.95,0.06")
    parser.add_argument("--target", type=_numbers, help="such as 0.05,0.82, or a class label")
    parser.add_argument("--loss", help="else by the output: cross_entropy or half_squared_error")
    parser.add_argument("--learning-rate", type=_above_zero, default=0.01, help="size of a step")
    parser.add_argument(
        "--symbols", choices=("numbered", "indexed"), help="w5 or W2[1,1]; else by the size"
    )
    parser.add_argument("--digits", type=_positive, default=7, help="significant ones")
    parser.add_argument("--html", type=Path, help="write a page to step through instead")
    parser.add_argument(
        "--epochs", type=_positive, default=100, help="steps with this row, for the page's slider"
    )


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--phases", action="store_true", help="show where the time of a step goes instead"
    )
    parser.add_argument(
        "--cases", type=_cases, default=_CASES, help="letters of the networks to time"
    )
    parser.add_argument("--threads", type=_positive, default=1, help="for downslope and for NumPy")
    parser.add_argument("--seconds", type=_above_zero, default=100, help="for all networks, about")


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, nargs="?", help="file saved by downslope")


def _checked(
    convert: Callable[[str], Any], accept: Callable[[Any], bool], expected: str
) -> Callable[[str], Any]:
    """An argparse type: convert(text), if accept() says so."""

    def parse(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not accept(value):
            raise argparse.ArgumentTypeError(f"expected {expected}; got {text!r}")
        return value

    return parse


def _parse_widths(text: str) -> list[int]:
    return [] if text == "none" else [int(width) for width in text.split(",")]


def _parse_numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


_cases = _checked(
    str, lambda names: bool(names) and set(names) <= set(_CASES), f"letters of {_CASES}"
)
_positive = _checked(int, lambda value: value > 0, "a whole number above zero")
_natural = _checked(int, lambda value: 0 <= value < 2**64, "a whole number from zero")
_above_zero = _checked(float, lambda value: 0 < value < float("inf"), "a number above zero")
_fraction = _checked(float, lambda value: 0 < value < 1, "a number between 0 and 1")
_widths = _checked(
    _parse_widths,
    lambda widths: all(width > 0 for width in widths),
    "widths separated by commas, such as 64,32, or none",
)
_numbers = _checked(
    _parse_numbers,
    lambda numbers: all(math.isfinite(number) for number in numbers),
    "numbers separated by commas, such as 0.95,0.06",
)
