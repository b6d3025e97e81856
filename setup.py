"""Build the extensions: Cython over C kernels.

Each file of csrc/kernels/ is compiled once per instruction set and float type, with that set's
flags, and linked into `downslope._kernels`, the one extension that holds C code of this project.
Which compilation runs is decided at import (csrc/dispatch.c).

Environment: DOWNSLOPE_DEBUG=1 builds with bounds checks and without optimisation;
DOWNSLOPE_WERROR=1 makes every warning in csrc/ an error.
"""

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("DOWNSLOPE_DEBUG") == "1"
WERROR = os.environ.get("DOWNSLOPE_WERROR") == "1"

# Plain C is for CPUs without any of the others, where every FMA is a call: small before fast.
INSTRUCTION_SETS = {"scalar": [] if DEBUG else ["-Os"]}
if platform.machine().lower() in ("x86_64", "amd64"):
    INSTRUCTION_SETS["avx2"] = ["-mavx2", "-mfma"]
    INSTRUCTION_SETS["avx512"] = [
        "-mavx512f",
        "-mavx512dq",
        "-mavx512bw",
        "-mavx512vl",
        "-mfma",
        "-mprefer-vector-width=512",
    ]
elif platform.machine().lower() in ("aarch64", "arm64"):
    INSTRUCTION_SETS["neon"] = []

FLOAT_BITS = (32, 64)
KERNELS = sorted(str(path) for path in Path("csrc/kernels").glob("*.c"))
BASELINE = sorted(str(path) for path in Path("csrc").glob("*.c"))
HEADERS = sorted(str(path) for path in [*Path("csrc").rglob("*.h"), *Path("src").rglob("*.h")])

# No contraction, no fast-math: every fused multiply-add is written out (docs/design.md, section
# "Numerics").
C_FLAGS = ["-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-pthread"]
# A second copy of every product loop for neighbouring elements would double the kernels' size and
# gain nothing.
C_FLAGS += ["-fno-version-loops-for-strides"]
# A loop of a few instructions that lies across two lines of the instruction cache may take twice as
# long (`relu` of benches/test_kernels.py), and where it lies is chance: no short one does.
ALIGNED = ["-falign-loops=32"]
C_FLAGS += ALIGNED
# Nothing unwinds through a kernel, and the tables for it are a part of the wheel's size.
KERNEL_FLAGS = [] if DEBUG else ["-fno-asynchronous-unwind-tables"]
C_FLAGS += ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-g0", "-DNDEBUG"]
C_FLAGS += ["-Wall", "-Wextra", "-Werror"] if WERROR else ["-Wall", "-Wextra"]
# What Cython writes is not ours to warn about.
CYTHON_FLAGS = ["-std=gnu11", "-fvisibility=hidden", "-w", "-DCYTHON_CLINE_IN_TRACEBACK=0"]
CYTHON_FLAGS += ALIGNED
# The engine runs in every step; the other is hooks and tables.
OPTIMIZATION = {"_engine": "-O2", "_kernels": "-Os"}


class BuildKernels(build_ext):
    """Compiles csrc/ beside the extension that links it."""

    def build_extension(self, ext: Extension) -> None:
        if ext.name == "downslope._kernels":
            ext.extra_objects = self.compile_csrc()
        super().build_extension(ext)

    def compile_csrc(self) -> list[str]:
        variants = [("baseline", BASELINE, [], [])]
        for isa, flags in INSTRUCTION_SETS.items():
            for bits in FLOAT_BITS:
                macros = [(f"DS_TARGET_{isa}", "1"), ("DS_FLOAT_BITS", str(bits))]
                variants.append((f"{isa}_f{bits}", KERNELS, macros, flags + KERNEL_FLAGS))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(chain.from_iterable(pool.map(lambda v: self.compile_to(*v), variants)))

    def compile_to(
        self, folder: str, sources: list[str], macros: list[tuple[str, str]], flags: list[str]
    ) -> list[str]:
        return self.compiler.compile(
            sources,
            output_dir=os.path.join(self.build_temp, folder),
            macros=macros,
            include_dirs=["csrc/include"],
            extra_postargs=C_FLAGS + flags,
            depends=HEADERS,
        )


extensions = [
    Extension(
        f"downslope.{name}",
        [f"src/downslope/{name}.pyx"],
        include_dirs=["csrc/include", "src/downslope/include"],
        depends=HEADERS + (KERNELS + BASELINE if name == "_kernels" else []),
        extra_compile_args=[*CYTHON_FLAGS, *(["-O0"] if DEBUG else [OPTIMIZATION[name], "-g0"])],
        extra_link_args=["-pthread", "-lm", *([] if DEBUG else ["-s"])],
    )
    for name in OPTIMIZATION
]

setup(
    cmdclass={"build_ext": BuildKernels},
    ext_modules=cythonize(
        extensions,
        include_path=["src"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": DEBUG,
            "freethreading_compatible": True,
        },
    ),
)
