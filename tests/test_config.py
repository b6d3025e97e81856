"""What the installation says about itself."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import numpy as np
import pytest

import downslope as ds

KEYS = ["version", "isa", "available_isas", "threads", "python", "numpy", "machine", "cpu"]


@pytest.fixture
def threads_as_before():
    before = ds.get_num_threads()
    yield
    ds.set_num_threads(before)


def test_config():
    config = ds.config()
    assert list(config) == KEYS
    assert config["version"] == importlib.metadata.version("downslope")
    assert config["isa"] in config["available_isas"]
    assert "scalar" in config["available_isas"]
    assert config["numpy"] == np.__version__
    assert config["cpu"]
    json.dumps(config)  # plain values, for bug reports and records of benchmarks


def test_config_is_the_callers_own():
    ds.config()["available_isas"].clear()
    assert ds.config()["available_isas"]


def test_config_follows_the_number_of_threads(threads_as_before):
    ds.set_num_threads(3)
    assert ds.config()["threads"] == ds.get_num_threads() == 3


def test_show_config(capsys):
    assert ds.show_config() is None
    out, err = capsys.readouterr()
    assert err == ""
    config = ds.config()
    assert [line.split()[0] for line in out.splitlines()] == list(config)
    assert f"  {', '.join(config['available_isas'])}\n" in out
    assert f"version  {config['version']}\n" in out


def test_public_names():
    for name in ds.__all__:
        assert getattr(ds, name).__doc__, name


def test_import_needs_numpy_alone():
    """And prints nothing.  (threadpoolctl is told of this library where it is installed.)"""
    optional = ["pandas", "matplotlib", "rich", "safetensors", "scipy"]
    code = f"import sys, downslope; print([name for name in {optional} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("[]\n", "")
