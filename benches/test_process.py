"""Import time, installed size and peak memory, each peer alone in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from benches import THREADS, peers

# Beside the first, which reads the files into the system's cache.
PROCESSES = 2
# One of each import: those named after what compiles are told apart by their speed alone.
ALONE = [name for name in peers.NAMES if name not in ("JAX jit", "torch.compile")]


@pytest.mark.benchmark(group="process")
@pytest.mark.skipif(THREADS > 1, reason="measured with one thread")
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("peer", ["downslope", *ALONE], indirect=True)
def test_process(
    benchmark: Callable[..., None], record: Callable[..., None], peer: type[peers.Peer]
) -> None:
    found = []

    def start() -> None:
        command = [sys.executable, "-m", "benches.process", peer.name, *peers.imports(peer.name)]
        folder = Path(__file__).parent.parent
        output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
        found.append(json.loads(output.stdout))

    benchmark.pedantic(start, rounds=PROCESSES, warmup_rounds=1)
    values = {key: median(facts[key] for facts in found[1:] or found) for key in found[0]}
    record("process", peer=peer.name, **values)
