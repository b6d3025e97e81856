"""Programs run in a Python process of their own: for what is decided once per process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`python arguments...` in this directory, warnings as errors, with a changed environment."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=TESTS,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    *arguments: str, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The same until its end; a process that hangs is killed and fails the test."""
    with start(*arguments, **environment) as process:
        try:
            out, error = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, error = process.communicate()
            raise AssertionError(f"still running after {timeout} s\n{out}\n{error}") from None
    return subprocess.CompletedProcess(arguments, process.returncode, out, error)


def output_of(*arguments: str, timeout: float = 120, **environment: str) -> str:
    """What it prints; it must succeed."""
    result = run(*arguments, timeout=timeout, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()
