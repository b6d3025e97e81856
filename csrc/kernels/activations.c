/* activations.c: the activations y = f(z) and their derivatives, d = d * f'(z) in place.
 *
 * z, y and d are blocks (rows, cols), each with its own row stride; z and y may be one block.  An
 * activation is two functions and its place in DS_ACTIVATIONS, which exports it:
 *
 *   forward_<name>     y = f(z)
 *   backward_<name>    d * f', from v = z or v = y as the list says
 *
 * They take vectors if the list says ELEMENT, whole rows if it says ROW.
 *
 * Numeric contract: element by element, the same operations in the same order everywhere; the sums
 * of softmax run over the lanes of lanes.h.  f of a NaN is a NaN.  Each f has its limits at
 * +-inf; so has f' of those that read z. */
#include "elementary.h"
#include "lanes.h"

/* ---- Element by element ---- */

/* x within low .. high; a NaN stays one. */
DS_INLINE vec clamp(real low, real high, vec x) { return v_min(v_set(high), v_max(v_set(low), x)); }

/* d where the clamped y is strictly within low .. high, else zero. */
DS_INLINE vec backward_clamp(vec d, vec y, real low, real high) {
  mask outside = m_or(v_less_equal(y, v_set(low)), v_less_equal(v_set(high), y));
  return v_zero_where(outside, d);
}

DS_INLINE vec forward_identity(vec z, OPTIONAL vec alpha) { return z; }
DS_INLINE vec backward_identity(vec d, OPTIONAL vec y, OPTIONAL vec alpha) { return d; }

DS_INLINE vec forward_sigmoid(vec z, OPTIONAL vec alpha) { return v_sigmoid(z); }
DS_INLINE vec backward_sigmoid(vec d, vec y, OPTIONAL vec alpha) {
  return v_mul(d, v_mul(y, v_sub(v_set(1), y)));
}

DS_INLINE vec forward_hard_sigmoid(vec z, OPTIONAL vec alpha) {
  return v_div(clamp(0, 6, v_add(z, v_set(3))), v_set(6));
}
DS_INLINE vec backward_hard_sigmoid(vec d, vec y, OPTIONAL vec alpha) {
  return v_div(backward_clamp(d, y, 0, 1), v_set(6));
}

DS_INLINE vec forward_tanh(vec z, OPTIONAL vec alpha) { return v_tanh(z); }
DS_INLINE vec backward_tanh(vec d, vec y, OPTIONAL vec alpha) {
  return v_mul(d, v_fnma(y, y, v_set(1)));
}

DS_INLINE vec forward_hard_tanh(vec z, OPTIONAL vec alpha) { return clamp(-1, 1, z); }
DS_INLINE vec backward_hard_tanh(vec d, vec y, OPTIONAL vec alpha) {
  return backward_clamp(d, y, -1, 1);
}

/* f'(z) = 1 / (1 + |z|)^2 = (1 - |y|)^2. */
DS_INLINE vec forward_softsign(vec z, OPTIONAL vec alpha) {
  vec x = clamp(-REAL_LARGEST, REAL_LARGEST, z);
  return v_div(x, v_add(v_set(1), v_abs(x)));
}
DS_INLINE vec backward_softsign(vec d, vec y, OPTIONAL vec alpha) {
  vec rest = v_sub(v_set(1), v_abs(y));
  return v_mul(d, v_mul(rest, rest));
}

DS_INLINE vec forward_relu(vec z, OPTIONAL vec alpha) { return v_max(v_zero(), z); }
DS_INLINE vec backward_relu(vec d, vec y, OPTIONAL vec alpha) {
  return v_zero_where(v_less_equal(y, v_zero()), d);
}

DS_INLINE vec forward_relu6(vec z, OPTIONAL vec alpha) { return clamp(0, 6, z); }
DS_INLINE vec backward_relu6(vec d, vec y, OPTIONAL vec alpha) {
  return backward_clamp(d, y, 0, 6);
}

DS_INLINE vec forward_leaky_relu(vec z, vec alpha) {
  return v_select(v_less(v_zero(), z), z, v_mul(alpha, z));
}
DS_INLINE vec backward_leaky_relu(vec d, vec z, vec alpha) {
  return v_select(v_less(v_zero(), z), d, v_mul(d, alpha));
}

DS_INLINE vec forward_elu(vec z, vec alpha) {
  return v_select(v_less(v_zero(), z), z, v_mul(alpha, v_expm1(z)));
}
DS_INLINE vec backward_elu(vec d, vec z, vec alpha) {
  return v_select(v_less(v_zero(), z), d, v_mul(d, v_mul(alpha, v_exp(z))));
}

/* lambda and lambda alpha, for which activations of mean 0 and variance 1 keep them. */
static const real SELU_ABOVE = (real)1.0507009873554804934;
static const real SELU_BELOW = (real)1.7580993408473768599;

DS_INLINE vec forward_selu(vec z, OPTIONAL vec alpha) {
  vec below = v_mul(v_set(SELU_BELOW), v_expm1(z));
  return v_select(v_less(v_zero(), z), v_mul(v_set(SELU_ABOVE), z), below);
}
DS_INLINE vec backward_selu(vec d, vec y, OPTIONAL vec alpha) {
  vec below = v_add(y, v_set(SELU_BELOW));
  return v_mul(d, v_select(v_less(v_zero(), y), v_set(SELU_ABOVE), below));
}

/* f'(z) = exp(z / alpha) = 1 + y / alpha below zero; alpha > 0. */
DS_INLINE vec forward_celu(vec z, vec alpha) {
  return v_select(v_less(v_zero(), z), z, v_mul(alpha, v_expm1(v_div(z, alpha))));
}
DS_INLINE vec backward_celu(vec d, vec y, vec alpha) {
  vec below = v_add(v_set(1), v_div(y, alpha));
  return v_select(v_less(v_zero(), y), d, v_mul(d, below));
}

/* The next four are z times something that is 0 at -inf and 1 at inf.  Far out they clamp z, lest
 * an infinity meet a 0 in a product. */

DS_INLINE vec forward_gelu(vec z, OPTIONAL vec alpha) {
  vec density;
  vec x = v_max(v_set(-40), z);
  return v_mul(x, v_normal_cdf(x, &density));
}
DS_INLINE vec backward_gelu(vec d, vec z, OPTIONAL vec alpha) {
  vec density, x = clamp(-40, 40, z);
  vec cdf = v_normal_cdf(x, &density);
  return v_mul(d, v_fma(x, density, cdf));
}

/* (1 + tanh u) / 2 = sigmoid(2 u), where 2 u = z (A + B z^2), A = sqrt(8 / pi), B = 0.044715 A. */
static const real GELU_A = (real)1.5957691216057307117;
static const real GELU_B = (real)0.0713548162726002527;

DS_INLINE vec forward_gelu_tanh(vec z, OPTIONAL vec alpha) {
  vec x = v_max(v_set(-40), z);
  vec factor = v_fma(v_mul(x, x), v_set(GELU_B), v_set(GELU_A));
  return v_mul(x, v_sigmoid(v_mul(x, factor)));
}
DS_INLINE vec backward_gelu_tanh(vec d, vec z, OPTIONAL vec alpha) {
  vec slope, x = clamp(-40, 40, z), square = v_mul(x, x), a = v_set(GELU_A);
  vec s = v_sigmoid_slope(v_mul(x, v_fma(square, v_set(GELU_B), a)), &slope);
  vec inner = v_fma(square, v_set(3 * GELU_B), a);
  return v_mul(d, v_fma(v_mul(x, slope), inner, s));
}

DS_INLINE vec forward_silu(vec z, OPTIONAL vec alpha) {
  vec x = v_max(v_set(-1000), z);
  return v_mul(x, v_sigmoid(x));
}
DS_INLINE vec backward_silu(vec d, vec z, OPTIONAL vec alpha) {
  vec x = clamp(-1000, 1000, z), slope;
  vec s = v_sigmoid_slope(x, &slope);
  return v_mul(d, v_fma(x, slope, s));
}

/* tanh(softplus(z)) and its derivative.  With e = exp(z) it is n / (n + 2), n = e (e + 2); for z > 0
 * both are divided by e^2, so that nothing overflows and nothing cancels. */
DS_INLINE vec tanh_softplus(vec z, vec *slope) {
  vec one = v_set(1), two = v_set(2), e = exp_bounded(v_neg(v_abs(z))), square = v_mul(e, e);
  mask negative = v_less(z, v_zero());
  vec n = v_select(negative, v_mul(e, v_add(e, two)), v_fma(two, e, one));
  vec sum = v_add(n, v_select(negative, two, v_add(square, square)));
  vec power = v_mul(v_set(4), v_select(negative, e, square));
  *slope = v_div(v_mul(power, v_add(one, e)), v_mul(sum, sum));
  return v_div(n, sum);
}

DS_INLINE vec forward_mish(vec z, OPTIONAL vec alpha) {
  vec slope, x = v_max(v_set(-1000), z);
  return v_mul(x, tanh_softplus(x, &slope));
}
DS_INLINE vec backward_mish(vec d, vec z, OPTIONAL vec alpha) {
  vec slope, x = clamp(-1000, 1000, z);
  vec t = tanh_softplus(x, &slope);
  return v_mul(d, v_fma(x, slope, t));
}

/* f'(z) = sigmoid(z) = 1 - exp(-y). */
DS_INLINE vec forward_softplus(vec z, OPTIONAL vec alpha) { return v_softplus(z); }
DS_INLINE vec backward_softplus(vec d, vec y, OPTIONAL vec alpha) {
  return v_mul(d, v_neg(v_expm1(v_neg(y))));
}

/* ---- Row by row ---- */

typedef struct {
  const real *z;
  real *y; /* where the exponentials are kept; NULL: nowhere */
  vec max;
} softmax_row;

DS_INLINE vec softmax_inputs(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const softmax_row *row = context;
  return v_load_part(row->z + j, n);
}

/* exp(z - max). */
DS_INLINE vec softmax_terms(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const softmax_row *row = context;
  const vec term = v_exp(v_sub(v_load_part(row->z + j, n), row->max));
  if (row->y) v_store_part(row->y + j, term, n);
  return term;
}

DS_INLINE void forward_softmax(ptrdiff_t cols, const real *z, real *y) {
  softmax_row row = {z, y, v_zero()};
  row.max = v_set(row_max(cols, softmax_inputs, &row));
  const vec sum = v_set(row_sum(cols, softmax_terms, &row));
  for (ptrdiff_t j = 0; j < cols; j += VEC)
    v_store_part(y + j, v_div(v_load_part(y + j, cols - j), sum), cols - j);
}

typedef struct {
  const real *y, *d;
} softmax_slopes;

DS_INLINE vec softmax_products(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const softmax_slopes *row = context;
  return v_mul(v_load_part(row->d + j, n), v_load_part(row->y + j, n));
}

/* d = y * (d - sum of d * y). */
DS_INLINE void backward_softmax(ptrdiff_t cols, const real *y, real *d) {
  const softmax_slopes row = {y, d};
  const vec sum = v_set(row_sum(cols, softmax_products, &row));
  for (ptrdiff_t j = 0; j < cols; j += VEC) {
    const vec difference = v_sub(v_load_part(d + j, cols - j), sum);
    v_store_part(d + j, v_mul(v_load_part(y + j, cols - j), difference), cols - j);
  }
}

/* z - max - log(sum of exp(z - max)). */
DS_INLINE void forward_log_softmax(ptrdiff_t cols, const real *z, real *y) {
  softmax_row row = {z, NULL, v_zero()};
  row.max = v_set(row_max(cols, softmax_inputs, &row));
  const vec log_sum = v_log(v_set(row_sum(cols, softmax_terms, &row)));
  for (ptrdiff_t j = 0; j < cols; j += VEC) {
    const vec difference = v_sub(v_load_part(z + j, cols - j), row.max);
    v_store_part(y + j, v_sub(difference, log_sum), cols - j);
  }
}

DS_INLINE vec row_elements(const void *context, ptrdiff_t j, ptrdiff_t n) {
  return v_load_part((const real *)context + j, n);
}

/* d = d - exp(y) * sum of d. */
DS_INLINE void backward_log_softmax(ptrdiff_t cols, const real *y, real *d) {
  const vec sum = v_set(row_sum(cols, row_elements, d));
  for (ptrdiff_t j = 0; j < cols; j += VEC) {
    const vec softmax = v_exp(v_load_part(y + j, cols - j));
    v_store_part(d + j, v_fnma(softmax, sum, v_load_part(d + j, cols - j)), cols - j);
  }
}

/* ---- The walks over a block ---- */

/* Rows that follow one another without a gap are one long row, so that narrow blocks fill their
 * vectors. */
DS_INLINE void join_rows(ptrdiff_t *rows, ptrdiff_t *cols, ds_rows a, ds_rows b) {
  if (a.stride == *cols && b.stride == *cols) {
    *cols *= *rows;
    *rows = 1;
  }
}

DS_INLINE void walk_forward_ELEMENT(ptrdiff_t rows, ptrdiff_t cols, ds_rows z, ds_rows y,
                                    double alpha, vec (*forward)(vec z, vec alpha)) {
  const vec parameter = v_set((real)alpha);
  join_rows(&rows, &cols, z, y);
  for (ptrdiff_t i = 0; i < rows; i++) {
    const real *z_i = ds_row(z, i);
    real *y_i = ds_row(y, i);
    ptrdiff_t j = 0, left = cols;
    for (; left >= VEC; j += VEC, left -= VEC)
      v_store(y_i + j, forward(v_load(z_i + j), parameter));
    if (left > 0) v_store_first(y_i + j, forward(v_load_first(z_i + j, left), parameter), left);
  }
}

DS_INLINE void walk_backward_ELEMENT(ptrdiff_t rows, ptrdiff_t cols, ds_rows v, ds_rows d,
                                     double alpha, vec (*backward)(vec d, vec v, vec alpha)) {
  if (backward == backward_identity) return;
  const vec parameter = v_set((real)alpha);
  join_rows(&rows, &cols, v, d);
  for (ptrdiff_t i = 0; i < rows; i++) {
    const real *v_i = ds_row(v, i);
    real *d_i = ds_row(d, i);
    ptrdiff_t j = 0, left = cols;
    for (; left >= VEC; j += VEC, left -= VEC)
      v_store(d_i + j, backward(v_load(d_i + j), v_load(v_i + j), parameter));
    if (left > 0) {
      const vec d_last = v_load_first(d_i + j, left), v_last = v_load_first(v_i + j, left);
      v_store_first(d_i + j, backward(d_last, v_last, parameter), left);
    }
  }
}

DS_INLINE void walk_forward_ROW(ptrdiff_t rows, ptrdiff_t cols, ds_rows z, ds_rows y,
                                OPTIONAL double alpha,
                                void (*forward)(ptrdiff_t cols, const real *z, real *y)) {
  for (ptrdiff_t i = 0; i < rows; i++) forward(cols, ds_row(z, i), ds_row(y, i));
}

DS_INLINE void walk_backward_ROW(ptrdiff_t rows, ptrdiff_t cols, ds_rows v, ds_rows d,
                                 OPTIONAL double alpha,
                                 void (*backward)(ptrdiff_t cols, const real *v, real *d)) {
  for (ptrdiff_t i = 0; i < rows; i++) backward(cols, ds_row(v, i), ds_row(d, i));
}

#define EXPORT(name, reads, shape)                                                                 \
  void DS_NAME(activation_##name)(ptrdiff_t rows, ptrdiff_t cols, ds_rows z, ds_rows y,            \
                                  double alpha) {                                                  \
    walk_forward_##shape(rows, cols, z, y, alpha, forward_##name);                                 \
  }                                                                                                \
  void DS_NAME(derivative_##name)(ptrdiff_t rows, ptrdiff_t cols, ds_rows z, ds_rows y, ds_rows d, \
                                  double alpha) {                                                  \
    walk_backward_##shape(rows, cols, DS_READS_##reads == DS_READS_INPUT ? z : y, d, alpha,        \
                          backward_##name);                                                        \
  }
DS_ACTIVATIONS(EXPORT)
