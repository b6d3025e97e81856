"""`python -m benches.instructions`: instructions of a training step, counted by Callgrind.

A count does not depend on what else the machine does: it shows a regression of a few per cent where
times can not.  It says nothing of caches and little of speed, so it is a bound and not an aim.  A
count above the stored one by more than the slack is an error; `--update` stores the present ones.
Features of training are counted at one network, and stand beside the count without them.

One process trains each network three times: once to prepare everything, then one mini-batch, then
many; the difference of the last two is that of the steps alone.  Before and after each, the process
calls a function that nothing else calls, at which Callgrind writes down what it has counted since.
The AVX2 kernels are counted, as Valgrind knows no wider ones.  Another compiler makes other
instructions: counts are judged only where the compiler is the one that the bounds were stored with.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benches.features import FEATURES, Feature
from downslope.cases import CASES

HERE = Path(__file__).parent
BOUNDS = HERE / "instructions.json"
SLACK = 0.02
# How many mini-batches are counted beyond the first.
STEPS = {"A": 20_000, "B": 2000, "C": 200, "R": 250, "D": 5, "E": 8}
# The network at which features are counted: those that act in a step, from the first one on.
COSTED = "C"
COUNTED = {name: (name, Feature()) for name in STEPS} | {
    f"{COSTED}, {name}": (COSTED, feature)
    for name, feature in FEATURES.items()
    if feature.fit is Feature.fit and not feature.trained
}
# A function of the C library that neither Python nor NumPy calls but by `os.getloadavg`.
MARK = "getloadavg"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.instructions", description=__doc__)
    parser.add_argument("--update", action="store_true", help="store what is counted now")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train()
    elif arguments.update:
        bounds = json.dumps({"compiler": compiler(), "counts": count()}, indent=2)
        BOUNDS.write_text(f"{bounds}\n", encoding="ascii")
    else:
        bounds = json.loads(BOUNDS.read_text(encoding="ascii"))
        if bounds["compiler"] == compiler():
            sys.exit(check(count(), bounds["counts"]))
        print(f"the bounds are those of {bounds['compiler']}, and this is {compiler()}: no counts")


def compiler() -> str:
    """The one that builds extensions here, by its own words."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    words = subprocess.run([*command.split(), "--version"], capture_output=True, text=True).stdout
    return words.partition("\n")[0]


def train() -> None:
    """Train what is counted on one mini-batch, on one again, and on many more, between marks."""
    gc.disable()  # whenever it runs, it would count
    cases = {case.name: case for case in CASES if case.name in STEPS}
    data = {name: case.data(1 + STEPS[name]) for name, case in cases.items()}
    for name, feature in COUNTED.values():
        case, (x, y) = cases[name], data[name]
        trainer = feature.trainer(case)
        for rows in case.batch, case.batch, len(x):
            os.getloadavg()
            trainer.fit(x[:rows], y[:rows], batch_size=case.batch, shuffle=False)
        os.getloadavg()


def count() -> dict[str, int]:
    """Instructions of a step, of each network and feature."""
    # Of each: what came before it (the start of Python, data), and its three trainings.
    found = np.reshape(instructions(), (len(COUNTED), 4)).tolist()
    return {
        what: round((many - once) / STEPS[name])
        for (what, (name, _)), (_, _, once, many) in zip(COUNTED.items(), found, strict=True)
    }


def instructions() -> list[int]:
    """From mark to mark, of a process that trains so."""
    with TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--dump-before={MARK}"]
        command += [f"--callgrind-out-file={folder}/counts"]
        command += [sys.executable, "-m", "benches.instructions", "--train"]
        fixed = {"PYTHONHASHSEED": "0", "DOWNSLOPE_ISA": "avx2", "DOWNSLOPE_NUM_THREADS": "1"}
        ended = subprocess.run(
            command, cwd=HERE.parent, env={**os.environ, **fixed}, capture_output=True, text=True
        )
        if ended.returncode:
            raise RuntimeError(f"valgrind ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
        # The last file, without a number, is what comes after the last mark.
        files = sorted(Path(folder).glob("counts.*"), key=lambda file: int(file.suffix[1:]))
        totals = [re.search(r"^totals: (\d+)", file.read_text(), re.MULTILINE) for file in files]
        return [int(total[1]) for total in totals if total is not None]


def check(counts: dict[str, int], bounds: dict[str, int]) -> int:
    """Print counts beside bounds; 1 if one is exceeded."""
    exceeded = [what for what, found in counts.items() if found > (1 + SLACK) * bounds[what]]
    for what, found in counts.items():
        beside = f"{found / bounds[what] - 1:+.1%}"
        if what not in STEPS:
            beside += f", {found / counts[COSTED] - 1:+.1%} to {COSTED}"
        print(f"{what:<40}{found:>12,}  {beside}{'  exceeded' * (what in exceeded)}")
    if exceeded:
        print(f"more than {SLACK:.0%} above {BOUNDS.name}; meant so? then --update, and say why")
    return int(bool(exceeded))


if __name__ == "__main__":
    main()
