"""Benchmarks: downslope beside its peers, on the same data, threads and cores.

`python -m pytest benches --benchmark-only` runs them, `python -m benches.report` runs them and
writes a report.  This file is imported before anything else of the folder, and so before NumPy
starts its BLAS: the number of threads of both sides is set here.
"""

import os

THREADS = int(os.environ.get("DOWNSLOPE_BENCH_THREADS", "1"))

for _variable in (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
):
    os.environ[_variable] = str(THREADS)
