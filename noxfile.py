"""The test suite on every supported Python that is installed, the checks of the source, the pages.

`nox` runs all sessions, `nox -s lint` one of them, `nox -s tests-3.12 -- -k layout` some tests.
"""

from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.error_on_missing_interpreters = False

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.11", "3.12", "3.13"]

SPHINX = ["--fail-on-warning", "--keep-going", "--quiet", "--builder", "html"]
# Without the options of the test suite: the warnings of Jupyter are not ours.
NOTEBOOK = ["--override-ini=addopts=", "--override-ini=filterwarnings=", "--nbmake"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, and the examples in docstrings, on the installed package."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style of the Python, Cython and C sources."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("cython-lint", "src")
    sources = sorted(str(path) for path in Path("csrc").rglob("*.[ch]"))
    session.run("clang-format", "--dry-run", "-Werror", *sources)


@nox.session
def types(session: nox.Session) -> None:
    """Types of the package."""
    session.install(*nox.project.dependency_groups(PROJECT, "types"))
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The pages, with warnings as errors, and the notebook from top to bottom."""
    session.install(".", *nox.project.dependency_groups(PROJECT, "docs"), "pytest")
    pages = Path("docs", "_build", "html")
    session.run("python", "-m", "sphinx", *SPHINX, "docs", str(pages))
    session.run("python", "-m", "pytest", *NOTEBOOK, "examples")
