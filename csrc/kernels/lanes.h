/* lanes.h: sums and maxima over the columns of a row, the same to the bit whatever the vectors.
 *
 * Column j belongs to lane j % DS_LANES.  A lane takes its columns in ascending order; then lane l
 * takes in lane l + 8, lane l + 4, lane l + 2 and lane l + 1, in that order.  So the result is a
 * function of the values and their number alone. */
#ifndef DS_LANES_H
#define DS_LANES_H

#include <math.h>

#include "kernels.h"

/* The lanes of one row stand in registers, a vector in each; in plain C that would be 16 copies of
 * whatever gives the values, so there they stand in memory. */
#ifdef DS_TARGET_scalar
#define UNROLL_PARTS _Pragma("GCC unroll 1")
#else
#define UNROLL_PARTS UNROLL
#endif

/* The values of the columns j .. j + n - 1 of a row, 1 <= n <= VEC; what the lanes beyond hold does
 * not matter.  `context` is the caller's. */
typedef vec (*row_values)(const void *context, ptrdiff_t j, ptrdiff_t n);

/* How two lanes combine, for all lanes of two vectors and for one lane. */
typedef struct {
  vec (*vectors)(vec a, vec b);
  real (*elements)(real a, real b);
} combination;

/* Combine all values of a row, each lane starting from `start`. */
DS_INLINE real reduce_row(ptrdiff_t cols, row_values values, const void *context,
                          const combination combine, real start) {
  enum { PARTS = DS_LANES / VEC };
  vec lanes[PARTS];
  UNROLL_PARTS for (int part = 0; part < PARTS; part++) lanes[part] = v_set(start);

  ptrdiff_t j = 0;
  for (; j + DS_LANES <= cols; j += DS_LANES) {
    UNROLL_PARTS for (int part = 0; part < PARTS; part++) {
      lanes[part] = combine.vectors(lanes[part], values(context, j + part * VEC, VEC));
    }
  }
  UNROLL_PARTS for (int part = 0; part < PARTS; part++) {
    const ptrdiff_t left = cols - j - part * VEC, n = left < VEC ? left : VEC;
    if (n > 0) {
      const vec combined = combine.vectors(lanes[part], values(context, j + part * VEC, n));
      lanes[part] = v_select(m_first(n), combined, lanes[part]);
    }
  }

  UNROLL for (int half = PARTS / 2; half > 0; half /= 2) {
    UNROLL_PARTS for (int part = 0; part < half; part++) {
      lanes[part] = combine.vectors(lanes[part], lanes[part + half]);
    }
  }
  real lane[VEC];
  v_store(lane, lanes[0]);
  UNROLL for (int half = VEC / 2; half > 0; half /= 2) {
    UNROLL for (int l = 0; l < half; l++) lane[l] = combine.elements(lane[l], lane[l + half]);
  }
  return lane[0];
}

DS_INLINE real add_elements(real a, real b) { return a + b; }
DS_INLINE real max_elements(real a, real b) { return a > b ? a : b; }

/* The sum of a row; 0 if it has no columns. */
DS_INLINE real row_sum(ptrdiff_t cols, row_values values, const void *context) {
  const combination add = {v_add, add_elements};
  return reduce_row(cols, values, context, add, 0);
}

/* The greatest value of a row; -inf if it has no columns; NaNs may be passed over. */
DS_INLINE real row_max(ptrdiff_t cols, row_values values, const void *context) {
  const combination max = {v_max, max_elements};
  return reduce_row(cols, values, context, max, -(real)INFINITY);
}

#endif
