"""`python -m benches.instructions`: instructions of a training step, counted by Callgrind.

A count does not depend on what else the machine does: it shows a regression of a few per cent where
times can not.  It says nothing of caches and little of speed, so it is a bound and not an aim.  A
count above the stored one by more than the slack is an error; `--update` stores the present ones.

Each process starts, prepares everything and trains a mini-batch of each network, of one of them
many: the difference is that of the steps alone.  The AVX2 kernels are counted, as Valgrind knows no
wider ones.  Another compiler makes other instructions: counts are judged only where the compiler is
the one that the bounds were stored with.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from downslope.cases import CASES

HERE = Path(__file__).parent
BOUNDS = HERE / "instructions.json"
SLACK = 0.02
# How many mini-batches are counted: enough to outweigh what differs from process to process.
STEPS = {"A": 20_000, "B": 2000, "C": 500, "R": 250, "D": 5, "E": 8}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.instructions", description=__doc__)
    parser.add_argument("--update", action="store_true", help="store what is counted now")
    parser.add_argument("--train", metavar="LETTER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train is not None:
        train(arguments.train)
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


def train(longest: str) -> None:
    """One mini-batch of each network, and all of one."""
    for case in CASES:
        if case.name in STEPS:
            x, y = case.data(STEPS[case.name])
            rows = len(x) if case.name == longest else case.batch
            trainer = case.trainer()
            trainer.fit(x[:rows], y[:rows], batch_size=case.batch, shuffle=False)


def count() -> dict[str, int]:
    """Instructions of a step of each network."""
    once = instructions("")
    return {name: round((instructions(name) - once) / (steps - 1)) for name, steps in STEPS.items()}


def instructions(longest: str) -> int:
    """Of a whole process that trains so."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, "-m", "benches.instructions", "--train", longest]
    fixed = {"PYTHONHASHSEED": "0", "DOWNSLOPE_ISA": "avx2", "DOWNSLOPE_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, cwd=HERE.parent, env={**os.environ, **fixed}, capture_output=True, text=True
    )
    found = re.search(r"Collected : (\d+)", ended.stderr)
    if ended.returncode or found is None:
        raise RuntimeError(f"valgrind ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    return int(found[1])


def check(counts: dict[str, int], bounds: dict[str, int]) -> int:
    """Print counts beside bounds; 1 if one is exceeded."""
    exceeded = [name for name, found in counts.items() if found > (1 + SLACK) * bounds[name]]
    for name, found in counts.items():
        change = found / bounds[name] - 1
        print(f"{name}  {found:>12,}  {change:+.1%}{'  exceeded' * (name in exceeded)}")
    if exceeded:
        print(f"more than {SLACK:.0%} above {BOUNDS.name}; meant so? then --update, and say why")
    return int(bool(exceeded))


if __name__ == "__main__":
    main()
