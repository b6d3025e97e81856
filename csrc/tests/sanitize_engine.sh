#!/bin/sh
# Run Python's tests of engine and kernels with both extensions, Cython's code among them, under
# AddressSanitizer and UndefinedBehaviorSanitizer; any finding ends it with an error.  It builds in a
# copy of the tree and takes about ten minutes, so .ci/run leaves it to you.
#
# Needs GCC, and a Python on the PATH with the groups and extras of CONTRIBUTING installed.
# Usage:  csrc/tests/sanitize_engine.sh [pytest argument ...]
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git -C "$root" archive HEAD | tar -x -C "$work"
cd "$work"

sanitizers=-fsanitize=address,undefined
CFLAGS="$sanitizers -fno-sanitize-recover=all -fno-omit-frame-pointer" LDFLAGS=$sanitizers \
  python setup.py --quiet build_ext --inplace

if [ $# -eq 0 ]; then
  set -- tests/test_network.py tests/test_predict.py tests/test_training.py \
    tests/test_optimizers.py tests/test_noise.py tests/test_kernels.py \
    tests/test_gradients.py tests/test_trajectories.py tests/test_checkpoints.py \
    tests/test_ensemble.py tests/test_embedding.py tests/test_bad_input.py \
    tests/test_data.py tests/test_callbacks.py -k "not torch"
fi
# The interpreter itself is not instrumented: the sanitizers' libraries come before it, its own
# leaks do not count, and its small objects go through malloc to be watched.
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 \
  PYTHONMALLOC=malloc PYTHONPATH="$work/src" python -m pytest -q -p no:cacheprovider "$@"
