/* treatment.c: what is done to gradients before an optimiser's update, and to parameters beside it:
 * penalties, clipping, decay, a bound on norms, a running mean.
 *
 * Numeric contract: element by element, each operation rounded once and in the order written here.
 * Sums over an array run in float64, in DS_LANES lanes, element j in lane j % DS_LANES, combined as
 * lanes.h says; sums over the rows of a column are one chain in ascending order.  NaN stays NaN. */
#include <math.h>

#include "kernels.h"

/* What becomes of a vector x, given the one that lies at the same place of another array. */
typedef vec (*treatment)(vec x, vec other, const vec *c);

/* x (n,) = f(x, other, c). */
DS_INLINE void treat(ptrdiff_t n, real *x, const real *other, treatment f, const vec *c) {
  ptrdiff_t j = 0;
  for (; j + VEC <= n; j += VEC) v_store(x + j, f(v_load(x + j), v_load(other + j), c));
  const ptrdiff_t left = n - j;
  if (left) {
    const vec last = f(v_load_first(x + j, left), v_load_first(other + j, left), c);
    v_store_first(x + j, last, left);
  }
}

/* The gradient of l2 p^2 by p; c holds 2 l2, then l1. */
DS_INLINE vec with_l2(vec gradient, vec parameter, const vec *c) {
  return v_fma(c[0], parameter, gradient);
}

/* That of l2 p^2 + l1 |p|; where p is 0 that of |p| counts as 0. */
DS_INLINE vec with_l1(vec gradient, vec parameter, const vec *c) {
  const vec step = v_copysign(c[1], parameter);
  return v_add(with_l2(gradient, parameter, c), v_zero_where(v_equal(parameter, v_zero()), step));
}

DS_INLINE void penalize(ptrdiff_t rows, ptrdiff_t cols, ds_rows gradient, ds_rows parameters,
                        treatment f, const vec *c) {
  for (ptrdiff_t i = 0; i < rows; i++) {
    treat(cols, ds_row(gradient, i), ds_row(parameters, i), f, c);
  }
}

void DS_NAME(add_penalty)(ptrdiff_t rows, ptrdiff_t cols, ds_rows gradient, ds_rows parameters,
                          double l1, double l2) {
  const vec c[] = {v_set((real)(2 * l2)), v_set((real)l1)};
  if (l1 != 0) {
    penalize(rows, cols, gradient, parameters, with_l1, c);
  } else {
    penalize(rows, cols, gradient, parameters, with_l2, c);
  }
}

DS_INLINE vec scaled(vec x, OPTIONAL vec other, const vec *c) { return v_mul(c[0], x); }

void DS_NAME(scale)(ptrdiff_t rows, ptrdiff_t cols, ds_rows block, double factor) {
  const vec c[] = {v_set((real)factor)};
  for (ptrdiff_t i = 0; i < rows; i++) {
    treat(cols, ds_row(block, i), ds_row(block, i), scaled, c);
  }
}

DS_INLINE vec clipped(vec x, OPTIONAL vec other, const vec *c) {
  return v_max(v_neg(c[0]), v_min(c[0], x));
}

void DS_NAME(clip)(ptrdiff_t n, void *values, double limit) {
  const vec c[] = {v_set((real)limit)};
  treat(n, values, values, clipped, c);
}

/* c holds what the mean keeps, then what the value gives. */
DS_INLINE vec running_mean(vec mean, vec value, const vec *c) {
  return without_subnormal(v_fma(c[0], mean, v_mul(c[1], value)));
}

void DS_NAME(average)(ptrdiff_t n, const void *values, void *means, double momentum) {
  const vec c[] = {v_set((real)momentum), v_set((real)(1 - momentum))};
  treat(n, means, values, running_mean, c);
}

static double sum_of_lanes(double *lane) {
  for (int half = DS_LANES / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; l++) lane[l] += lane[l + half];
  }
  return lane[0];
}

DS_INLINE double square(double x) { return x * x; }

/* The sum of power(x) over x (n,); on the way gradient (n,) = f(gradient, x, c), unless it is NULL: the
 * sum waits for its additions, and has time for that. */
DS_INLINE double power_sum(double (*power)(double), ptrdiff_t n, const real *x, real *gradient,
                           treatment f, const vec *c) {
  double lane[DS_LANES] = {0};
  const ptrdiff_t whole = n - n % DS_LANES;
  for (ptrdiff_t j = 0; j < whole; j += DS_LANES) {
    UNROLL for (int l = 0; l < DS_LANES; l++) lane[l] += power((double)x[j + l]);
    if (gradient) treat(DS_LANES, gradient + j, x + j, f, c);
  }
  for (ptrdiff_t j = whole; j < n; j++) lane[j - whole] += power((double)x[j]);
  if (gradient) treat(n - whole, gradient + whole, x + whole, f, c);
  return sum_of_lanes(lane);
}

double DS_NAME(sum_of_squares)(ptrdiff_t n, const void *values) {
  return power_sum(square, n, values, NULL, NULL, NULL);
}

double DS_NAME(penalize)(ptrdiff_t n, const void *parameters, double l1, double l2, void *gradient,
                         double factor) {
  const vec c[] = {v_set((real)(2 * (factor * l2))), v_set((real)(factor * l1))};
  if (l1 == 0) return l2 * power_sum(square, n, parameters, gradient, with_l2, c);
  const double absolute = power_sum(fabs, n, parameters, gradient, with_l1, c);
  return l1 * absolute + (l2 != 0 ? l2 * DS_NAME(sum_of_squares)(n, parameters) : 0);
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
