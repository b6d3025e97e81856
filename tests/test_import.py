"""`import downslope` brings what a network needs; the rest comes with its first use."""

from __future__ import annotations

import pytest

import downslope as ds
import fresh_python

# What takes long to import, or what most programs do without.
LEFT_OUT = {
    *("csv", "decimal", "difflib", "hashlib", "hmac", "json", "pathlib", "random", "secrets"),
    *("statistics", "urllib", "matplotlib", "pandas", "rich", "scipy"),
    *(f"downslope.{name}" for name in (*ds._MODULES, "checkpoints", "plots")),
}

WHAT_IS_IMPORTED = """
import sys, numpy
sys.modules["threadpoolctl"] = None  # if installed it is told of the threads, and brings its own
before = set(sys.modules)
import downslope
print(*(set(sys.modules) - before))
"""


def test_the_import_is_light():
    imported = set(fresh_python.output_of("-c", WHAT_IS_IMPORTED).split())
    assert "downslope.network" in imported
    assert imported & LEFT_OUT == set()


@pytest.mark.parametrize("name", sorted({*ds._MODULE_OF, "schedules"}))
def test_lazy_names(name):
    """In this process some are loaded already; here the table is asked again."""
    assert name in ds.__all__
    assert name in dir(ds)
    found = ds.__getattr__(name)
    assert found is getattr(ds, name)
    assert found.__name__.removeprefix("downslope.") == name


def test_all_names_in_a_fresh_process():
    program = (
        "import downslope as ds; assert set(ds.__all__) <= set(dir(ds)); "
        "from downslope import *; print(*(name for name in ds.__all__ if name not in globals()))"
    )
    assert fresh_python.output_of("-c", program) == ""


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="'downslope' has no attribute 'Adamm'"):
        _ = ds.Adamm
    with pytest.raises(ImportError, match="Adamm"):
        from downslope import Adamm  # noqa: F401


def test_functions_are_not_hidden_by_modules():
    """`ds.explain` is a function whatever was imported: an imported module becomes an attribute of
    its package, so none may have the name of a function."""
    program = """
import pkgutil, downslope as ds
names = {module.name for module in pkgutil.iter_modules(ds.__path__)}
print(*names & set(ds.__all__))
"""
    assert fresh_python.output_of("-c", program) == "schedules"
