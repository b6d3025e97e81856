"""What this installation is and how it is set: for bug reports and benchmark records."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from downslope import _kernels, _threads


def config() -> dict[str, Any]:
    """Version, instruction set, threads and platform.

    Returns
    -------
    dict
        With the keys ``version``, ``isa`` (in use), ``available_isas``, ``threads`` (the default),
        ``python``, ``numpy``, ``machine``, ``cpu``.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.config()["isa"] in ds.config()["available_isas"]
    True
    """
    from importlib.metadata import version  # slow to import, and rarely needed

    return {
        "version": version("downslope"),
        "isa": _kernels.active_isa(),
        "available_isas": _kernels.available_isas(),
        "threads": _threads.get_num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cpu": _cpu_name(),
    }


def show_config() -> None:
    """Print `config`, a line for each entry."""
    for key, value in config().items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{key:>15}  {text}")


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
