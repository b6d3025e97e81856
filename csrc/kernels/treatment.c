/* treatment.c: what is done to gradients before an optimiser's update, and to parameters beside it:
 * penalties, clipping, decay, a bound on norms, a running mean.
 *
 * Numeric contract: element by element, each operation rounded once and in the order written here.
 * Sums over an array run in float64, in DS_LANES lanes, element j in lane j % DS_LANES, combined as
 * lanes.h says; sums over the rows of a column are one chain in ascending order.  NaN stays NaN. */
#include <math.h>

#include "kernels.h"

/* g += 2 l2 p + l1 sign(p), the gradient of l2 p^2 + l1 |p|; where p is 0 that of |p| counts as 0. */
DS_INLINE void penalize(ptrdiff_t rows, ptrdiff_t cols, ds_rows gradient, ds_rows parameters,
                        const int has_l1, double l1, double l2) {
  const vec slope = v_set((real)(2 * l2)), step = v_set((real)l1), zero = v_zero();
  for (ptrdiff_t i = 0; i < rows; i++) {
    real *g = ds_row(gradient, i);
    const real *p = ds_row(parameters, i);
    for (ptrdiff_t j = 0; j < cols; j += VEC) {
      const vec at = v_load_part(p + j, cols - j);
      vec sum = v_fma(slope, at, v_load_part(g + j, cols - j));
      if (has_l1) {
        sum = v_add(sum, v_select(v_equal(at, zero), zero, v_copysign(step, at)));
      }
      v_store_part(g + j, sum, cols - j);
    }
  }
}

void DS_NAME(add_penalty)(ptrdiff_t rows, ptrdiff_t cols, ds_rows gradient, ds_rows parameters,
                          double l1, double l2) {
  if (l1 != 0) {
    penalize(rows, cols, gradient, parameters, 1, l1, l2);
  } else {
    penalize(rows, cols, gradient, parameters, 0, l1, l2);
  }
}

void DS_NAME(scale)(ptrdiff_t rows, ptrdiff_t cols, ds_rows block, double factor) {
  const vec f = v_set((real)factor);
  for (ptrdiff_t i = 0; i < rows; i++) {
    real *x = ds_row(block, i);
    for (ptrdiff_t j = 0; j < cols; j += VEC) {
      v_store_part(x + j, v_mul(f, v_load_part(x + j, cols - j)), cols - j);
    }
  }
}

void DS_NAME(clip)(ptrdiff_t n, void *values, double limit) {
  const vec high = v_set((real)limit), low = v_neg(high);
  real *x = values;
  for (ptrdiff_t j = 0; j < n; j += VEC) {
    const vec clipped = v_max(low, v_min(high, v_load_part(x + j, n - j)));
    v_store_part(x + j, clipped, n - j);
  }
}

static double sum_of_lanes(double *lane) {
  for (int half = DS_LANES / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; l++) lane[l] += lane[l + half];
  }
  return lane[0];
}

DS_INLINE double square(double x) { return x * x; }

DS_INLINE double power_sum(ptrdiff_t n, const real *x, double (*power)(double)) {
  double lane[DS_LANES] = {0};
  const ptrdiff_t whole = n - n % DS_LANES;
  for (ptrdiff_t j = 0; j < whole; j += DS_LANES) {
    UNROLL for (int l = 0; l < DS_LANES; l++) lane[l] += power((double)x[j + l]);
  }
  for (ptrdiff_t j = whole; j < n; j++) lane[j - whole] += power((double)x[j]);
  return sum_of_lanes(lane);
}

void DS_NAME(power_sums)(ptrdiff_t n, const void *values, double *absolute, double *squares) {
  if (absolute) *absolute = power_sum(n, values, fabs);
  if (squares) *squares = power_sum(n, values, square);
}

/* A column whose norm is beyond the largest number is left as it is. */
void DS_NAME(limit_columns)(ptrdiff_t rows, ptrdiff_t cols, ds_rows block, double limit) {
  const vec most = v_set((real)limit), largest = v_set(REAL_LARGEST);
  for (ptrdiff_t j = 0; j < cols; j += VEC) {
    vec squares = v_zero();
    for (ptrdiff_t i = 0; i < rows; i++) {
      const vec x = v_load_part((const real *)ds_row(block, i) + j, cols - j);
      squares = v_fma(x, x, squares);
    }
    const vec norm = v_sqrt(squares);
    const mask beyond = m_and(v_less(most, norm), v_less_equal(norm, largest));
    if (!m_any(beyond)) continue;
    const vec factor = v_select(beyond, v_div(most, norm), v_set(1));
    for (ptrdiff_t i = 0; i < rows; i++) {
      real *x = (real *)ds_row(block, i) + j;
      v_store_part(x, v_mul(factor, v_load_part(x, cols - j)), cols - j);
    }
  }
}

void DS_NAME(average)(ptrdiff_t n, const void *values, void *means, double momentum) {
  const vec old = v_set((real)momentum), new = v_set((real)(1 - momentum));
  const real *x = values;
  real *mean = means;
  for (ptrdiff_t j = 0; j < n; j += VEC) {
    const vec fresh = v_mul(new, v_load_part(x + j, n - j));
    v_store_part(mean + j, v_fma(old, v_load_part(mean + j, n - j), fresh), n - j);
  }
}
