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

#define OPTIONAL __attribute__((unused))

/* ---- Element by element ---- */

DS_INLINE vec forward_identity(vec z, OPTIONAL vec alpha) { return z; }
DS_INLINE vec backward_identity(vec d, OPTIONAL vec y, OPTIONAL vec alpha) { return d; }

DS_INLINE vec forward_sigmoid(vec z, OPTIONAL vec alpha) { return v_sigmoid(z); }
DS_INLINE vec backward_sigmoid(vec d, vec y, OPTIONAL vec alpha) {
  return v_mul(d, v_mul(y, v_sub(v_set(1), y)));
}

DS_INLINE vec forward_tanh(vec z, OPTIONAL vec alpha) { return v_tanh(z); }
DS_INLINE vec backward_tanh(vec d, vec y, OPTIONAL vec alpha) {
  return v_mul(d, v_fnma(y, y, v_set(1)));
}

DS_INLINE vec forward_relu(vec z, OPTIONAL vec alpha) { return v_max(v_zero(), z); }
DS_INLINE vec backward_relu(vec d, vec y, OPTIONAL vec alpha) {
  return v_select(v_less_equal(y, v_zero()), v_zero(), d);
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

/* Beyond +-`limit` both Phi and sigmoid are 0 or 1 and x phi(x) is 0; infinities stop there, lest
 * they meet that 0 in a product. */
DS_INLINE vec bounded(vec z, vec limit) { return v_min(limit, v_max(v_neg(limit), z)); }

DS_INLINE vec forward_gelu(vec z, OPTIONAL vec alpha) {
  vec density;
  vec x = v_max(v_set(-40), z);
  return v_mul(x, v_normal_cdf(x, &density));
}
DS_INLINE vec backward_gelu(vec d, vec z, OPTIONAL vec alpha) {
  vec density, x = bounded(z, v_set(40));
  vec cdf = v_normal_cdf(x, &density);
  return v_mul(d, v_fma(x, density, cdf));
}

DS_INLINE vec forward_silu(vec z, OPTIONAL vec alpha) {
  vec x = v_max(v_set(-1000), z);
  return v_mul(x, v_sigmoid(x));
}
DS_INLINE vec backward_silu(vec d, vec z, OPTIONAL vec alpha) {
  vec x = bounded(z, v_set(1000)), slope;
  vec s = v_sigmoid_slope(x, &slope);
  return v_mul(d, v_fma(x, slope, s));
}

/* f'(z) = sigmoid(z) = 1 - exp(-y). */
DS_INLINE vec forward_softplus(vec z, OPTIONAL vec alpha) { return v_softplus(z); }
DS_INLINE vec backward_softplus(vec d, vec y, OPTIONAL vec alpha) {
  return v_mul(d, v_neg(v_expm1(v_neg(y))));
}

/* ---- Row by row ---- */

typedef struct {
  const real *z;
  real *y;
  vec max;
} softmax_row;

DS_INLINE vec softmax_inputs(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const softmax_row *row = context;
  return v_load_part(row->z + j, n);
}

/* exp(z - max), kept in y. */
DS_INLINE vec softmax_terms(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const softmax_row *row = context;
  const vec term = v_exp(v_sub(v_load_part(row->z + j, n), row->max));
  v_store_part(row->y + j, term, n);
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
