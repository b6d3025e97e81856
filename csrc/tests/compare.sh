#!/bin/sh
# Compile the kernels for every instruction set and compare their results, bit by bit, with those of
# plain C, also where this machine lacks the instruction set:
#
#   avx512  by SIMDe and emulated/immintrin.h, on an x86-64 CPU with AVX2 and FMA
#   neon    by a cross compiler and QEMU
#
# Debian: apt-get install libsimde-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
# Usage:  csrc/tests/compare.sh [instruction set ...]       (default: avx2 avx512 neon)
set -eu

csrc=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# results ISA BITS: compile for it and run.
results() {
  compiler=${CC:-cc} runner="" flags=""
  case $1 in
    avx2) flags="-mavx2 -mfma" ;;
    avx512) flags="-mavx2 -mfma -w -Wno-psabi -I$csrc/tests/emulated" ;;
    neon) compiler=aarch64-linux-gnu-gcc runner=qemu-aarch64 flags="-static" ;;
  esac
  $compiler -std=gnu11 -O2 -ffp-contract=off -fno-math-errno -Wall -Wextra \
    -DDS_TARGET_"$1" -DDS_FLOAT_BITS="$2" -I"$csrc/include" $flags \
    "$csrc/tests/compare.c" "$csrc"/kernels/*.c -o "$work/compare" -lm
  $runner "$work/compare"
}

status=0
for bits in 32 64; do
  results scalar $bits > "$work/scalar"
  for isa in ${*:-avx2 avx512 neon}; do
    results "$isa" $bits > "$work/$isa"
    if diff "$work/scalar" "$work/$isa"; then
      echo "$isa, $bits bits: $(wc -l < "$work/$isa") kernels give the bits of plain C"
    else
      echo "$isa, $bits bits: differs" >&2
      status=1
    fi
  done
done
exit $status
