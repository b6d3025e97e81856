"""Times what `compare.py` asks for, a line of JSON each, with the downslope that it imports.

Prints the seconds per step, or per call of `predict` with one row.  What a job needs stays ready:
its second turn is warm.
"""

import json
import os
import sys
from functools import cache
from time import perf_counter

import numpy as np

import downslope as ds


@cache
def prepared(line):
    """A call that does the job once, and how many steps that is."""
    job = json.loads(line)
    widths, batch, steps = job["widths"], job["batch"], job["steps"]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch * steps, widths[0])).astype(np.float32)
    y = rng.uniform(size=(batch * steps, widths[-1])).astype(np.float32)
    net = ds.Network(widths, activation=job["activation"], output=job["output"], seed=0)
    optimizer = getattr(ds, job["optimizer"])(job["learning_rate"])
    trainer = ds.Trainer(net, loss="mse", optimizer=optimizer, threads=1)
    batches = [(x[i : i + batch], y[i : i + batch]) for i in range(0, len(x), batch)]

    def step():
        for rows in batches:
            trainer.step(*rows)

    def predict():
        for rows, _ in batches:
            net.predict(rows[:1], threads=1)

    calls = {
        "epoch": lambda: trainer.fit(x, y, batch_size=batch),
        "step": step,
        "predict": predict,
    }
    return calls[job["what"]], steps


def main():
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for line in sys.stdin:
        call, steps = prepared(line)
        begun = perf_counter()
        call()
        print((perf_counter() - begun) / steps, flush=True)


if __name__ == "__main__":
    main()
