/* kernels.h: what every kernel file shares.  A kernel file is compiled once per instruction set and
 * float type (setup.py): -DDS_TARGET_<isa> -DDS_FLOAT_BITS=32|64.  Its external symbols are named
 * by DS_NAME, so that all compilations link into one library; all else is static. */
#ifndef DS_KERNELS_H
#define DS_KERNELS_H

#include <float.h>

#include "../simd/simd.h"
#include "downslope.h"

/* The largest finite number and the smallest normal one. */
#if DS_FLOAT_BITS == 32
#define REAL_LARGEST FLT_MAX
#define REAL_SMALLEST FLT_MIN
#else
#define REAL_LARGEST DBL_MAX
#define REAL_SMALLEST DBL_MIN
#endif

/* What is kept from step to step (parameters, states, running means) becomes zero below the normal
 * range.  Where nothing feeds it any more, it would shrink without end (a unit that stays off, its
 * weights under a penalty), and every product, division and square root of such numbers takes
 * longer. */
DS_INLINE vec without_subnormal(vec x) {
  return v_zero_where(v_less(v_abs(x), v_set(REAL_SMALLEST)), x);
}

/* Unroll a loop whose bound is a constant where the function is inlined. */
#define UNROLL _Pragma("GCC unroll 16")

/* A parameter that not every function of its kind needs. */
#define OPTIONAL __attribute__((unused))

/* The register tile of a product (matmul.c).  32 registers hold 6 x 4 sums, 4 vectors of b and a
 * broadcast; 16 hold 6 x 2 sums, 2 of b and a broadcast. */
#if defined DS_TARGET_avx512 || defined DS_TARGET_neon
enum { TILE_VECTORS = 4, TILE_SUMS = 24 };
#else
enum { TILE_VECTORS = 2, TILE_SUMS = 12 };
#endif
enum { TILE_ROWS = 12, STRIP = TILE_VECTORS * VEC };

static inline void *ds_row(ds_rows block, ptrdiff_t i) {
  return (real *)block.data + i * block.stride;
}

/* The block that starts at element (i, j); NULL stays NULL. */
static inline ds_rows ds_at(ds_rows block, ptrdiff_t i, ptrdiff_t j) {
  if (block.data) block.data = (real *)block.data + i * block.stride + j;
  return block;
}

#endif
