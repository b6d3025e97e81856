"""A peer alone in a process: `python -m benches.process NAME MODULES` prints, as JSON, how long the
import of the modules takes beyond that of NumPy, what came with them, and the memory of a training.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from time import perf_counter

import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benches import THREADS

EPOCHS = 3
TRAINED = "E"


def main(name: str, modules: list[str]) -> None:
    facts = {
        "import_seconds": import_seconds(modules),
        "installed_bytes": installed_bytes(modules),
        **training_memory(name),
    }
    print(json.dumps(facts))


def import_seconds(modules: list[str]) -> float:
    np.zeros(1)  # NumPy's own import is over
    os.environ["KERAS_BACKEND"] = "jax"
    begun = perf_counter()
    for module in modules:
        import_module(module)
    return perf_counter() - begun


def installed_bytes(modules: list[str]) -> int:
    """Of the distributions that own the modules, and of what these require, NumPy apart."""
    roots = {module.split(".")[0] for module in modules}
    if roots == {"downslope"}:  # which may be imported from its sources: what a wheel would hold
        folder = Path(import_module("downslope").__file__).parent
        kept = (p for p in folder.rglob("*") if p.suffix in (".py", ".so", ".gz", ".pyi", ".txt"))
        return sum(path.stat().st_size for path in kept)
    owners, found = packages_distributions(), {"numpy"} - roots
    todo = [owner for root in roots for owner in owners[root]]
    size = 0
    while todo:
        name = canonicalize_name(todo.pop())
        if name in found:
            continue
        found.add(name)
        installed = distribution(name)
        paths = (Path(str(path.locate())) for path in installed.files or [])
        size += sum(path.stat().st_size for path in paths if path.exists())
        requirements = map(Requirement, installed.requires or [])
        todo += [r.name for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})]
    return size


def training_memory(name: str) -> dict[str, int]:
    """The growth of the process at its peak, beyond the data."""
    # not earlier: the peer's import is timed
    from benches import peers
    from downslope.cases import CASES

    case = next(case for case in CASES if case.name == TRAINED)
    peer = peers.load(name)
    x, y = case.data()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before = resident("VmRSS")
    side = peer(case, x, y, THREADS)
    for _ in range(EPOCHS):
        side.epoch()
    return {"memory_bytes": resident("VmHWM") - before, "data_bytes": x.nbytes + y.nbytes}


def resident(field: str) -> int:
    """Bytes that the process holds now (VmRSS) or has held at most (VmHWM)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
