#!/bin/sh
# Run the C sources under the compiler's sanitizers; any finding ends it with an error.
#
#   AddressSanitizer and UndefinedBehaviorSanitizer   every kernel over many shapes (compare.c, whose
#                                                     arrays end at pages that must not be touched),
#                                                     and the thread pool
#   ThreadSanitizer                                   the thread pool (pool.c)
#
# Usage:  csrc/tests/sanitize.sh [instruction set ...]      (default: scalar, and avx2 if the CPU has it)
set -eu

csrc=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build() { # build PROGRAM flag ... source ...
  program=$1
  shift
  ${CC:-cc} -std=gnu11 -O1 -g -ffp-contract=off -fno-math-errno -Wall -Wextra -pthread \
    -I"$csrc/include" "$@" -o "$work/$program" -lm
}

isas="scalar"
if grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo; then isas="scalar avx2"; fi

for isa in ${*:-$isas}; do
  flags=""
  if [ "$isa" = avx2 ]; then flags="-mavx2 -mfma"; fi
  for bits in 32 64; do
    build compare -fsanitize=address,undefined -fno-sanitize-recover=all $flags \
      -DDS_TARGET_"$isa" -DDS_FLOAT_BITS=$bits "$csrc/tests/compare.c" "$csrc"/kernels/*.c
    "$work/compare" >/dev/null
    echo "address, undefined: kernels of $isa, $bits bits: nothing found"
  done
done

for sanitizer in address,undefined thread; do
  build pool -fsanitize=$sanitizer -fno-sanitize-recover=all "$csrc/tests/pool.c" "$csrc/threads.c"
  # Addresses without randomness: ThreadSanitizer has its own places for its shadow.
  setarch -R "$work/pool" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
  echo "$sanitizer: thread pool: nothing found"
done
