/* checks.c: looking for NaN and infinity in what comes in.
 *
 * Blocks (rows, cols) with any row stride; one without gaps is looked at as one long row first.
 * Comparisons alone: the answer is the same everywhere. */
#include "kernels.h"

static int all_finite(const real *x, ptrdiff_t n) {
  mask finite = v_less_equal(v_zero(), v_zero());
  for (ptrdiff_t j = 0; j < n; j += VEC) {
    const vec magnitude = v_abs(v_load_part(x + j, n - j));
    finite = m_and(finite, v_less_equal(magnitude, v_set(REAL_LARGEST)));
  }
  return m_all(finite);
}

ptrdiff_t DS_NAME(first_not_finite)(ptrdiff_t rows, ptrdiff_t cols, ds_rows block) {
  if (block.stride == cols && all_finite(block.data, rows * cols)) return -1;
  for (ptrdiff_t i = 0; i < rows; i++) {
    if (!all_finite(ds_row(block, i), cols)) return i;
  }
  return -1;
}
