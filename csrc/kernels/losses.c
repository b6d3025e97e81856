/* losses.c: the loss of each row and its gradient, in one pass over the columns.
 *
 * A loss is a function of one vector of a row, which returns the columns' terms and stores the
 * gradient on the way, and a wrapper that sums the terms (lanes.h) and scales.  output, target and
 * delta are (rows, cols); row_loss is float64.
 *
 * Numeric contract: terms are computed in `real`, column by column; their sum runs in DS_LANES
 * lanes; the rows' losses leave as float64.  The cross-entropies read the net input, so that no
 * logarithm is taken of a rounded probability. */
#include "elementary.h"
#include "kernels.h"
#include "lanes.h"

/* One row: what it reads, where its gradient goes (NULL: nowhere) and by what that is scaled. */
typedef struct {
  const real *output, *target;
  real *delta;
  real scale;
  real greatest, total; /* softmax: the greatest net input, the sum of exp(z - greatest), */
  real log_sum;         /* greatest + log(total), so that -log y = log_sum - z */
} row;

DS_INLINE vec target_part(const row *r, ptrdiff_t j, ptrdiff_t n) {
  return v_load_part(r->target + j, n);
}

DS_INLINE vec output_part(const row *r, ptrdiff_t j, ptrdiff_t n) {
  return v_load_part(r->output + j, n);
}

DS_INLINE void store_delta(const row *r, ptrdiff_t j, ptrdiff_t n, vec gradient) {
  if (r->delta) v_store_part(r->delta + j, v_mul(v_set(r->scale), gradient), n);
}

/* The losses of all rows: loss_scale times the sum of the columns' terms. */
DS_INLINE void each_row(row_values terms, double loss_scale, ptrdiff_t rows, ptrdiff_t cols,
                        ds_rows output, ds_rows target, const real *weight, double scale,
                        double *row_loss, ds_rows delta) {
  for (ptrdiff_t i = 0; i < rows; i++) {
    const double w = weight ? weight[i] : 1;
    const row r = {.output = ds_row(output, i),
                   .target = ds_row(target, i),
                   .delta = delta.data ? ds_row(delta, i) : NULL,
                   .scale = (real)(scale * w)};
    row_loss[i] = w * loss_scale * row_sum(cols, terms, &r);
  }
}

/* The same for a single column without weights, whose rows lie as the columns of one row do: a sum
 * of one term is the term. */
DS_INLINE void each_row_of_one(row_values terms, double loss_scale, ptrdiff_t rows, ds_rows output,
                               ds_rows target, double scale, double *row_loss, ds_rows delta) {
  const row r = {
      .output = output.data, .target = target.data, .delta = delta.data, .scale = (real)scale};
  for (ptrdiff_t i = 0; i < rows; i += VEC) {
    const ptrdiff_t n = rows - i < VEC ? rows - i : VEC;
    real lanes[VEC];
    v_store(lanes, terms(&r, i, n));
    for (ptrdiff_t l = 0; l < n; l++) row_loss[i + l] = loss_scale * lanes[l];
  }
}

DS_INLINE void elementwise(row_values terms, double loss_scale, ptrdiff_t rows, ptrdiff_t cols,
                           ds_rows output, ds_rows target, const real *weight, double scale,
                           double *row_loss, ds_rows delta) {
  if (cols == 1 && output.stride == 1 && target.stride == 1 && !weight &&
      (!delta.data || delta.stride == 1)) {
    each_row_of_one(terms, loss_scale, rows, output, target, scale, row_loss, delta);
  } else {
    each_row(terms, loss_scale, rows, cols, output, target, weight, scale, row_loss, delta);
  }
}

/* ---- Squared errors ---- */

DS_INLINE vec squared_error(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec error = v_sub(output_part(r, j, n), target_part(r, j, n));
  store_delta(r, j, n, error);
  return v_mul(error, error);
}

/* The sum over the outputs of 0.5 (t - y)^2. */
void DS_NAME(loss_half_squared_error)(ptrdiff_t rows, ptrdiff_t cols, ds_rows output,
                                      ds_rows target, const void *weight, double scale,
                                      double *row_loss, ds_rows delta) {
  elementwise(squared_error, 0.5, rows, cols, output, target, weight, scale, row_loss, delta);
}

/* The mean over the outputs of (t - y)^2. */
void DS_NAME(loss_mse)(ptrdiff_t rows, ptrdiff_t cols, ds_rows output, ds_rows target,
                       const void *weight, double scale, double *row_loss, ds_rows delta) {
  elementwise(squared_error, 1.0 / cols, rows, cols, output, target, weight, 2 * scale / cols,
              row_loss, delta);
}

/* ---- Binary cross-entropy of y = sigmoid(z): the mean over the outputs of
 * -(t log y + (1 - t) log(1 - y)) = max(z, 0) - z t + log(1 + exp(-|z|)); dE/dz = y - t. ---- */

DS_INLINE vec binary_cross_entropy(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec z = output_part(r, j, n), t = target_part(r, j, n);
  const vec small = v_exp(v_neg(v_abs(z)));
  const mask negative = v_less(z, v_zero());
  const vec y = v_div(v_select(negative, small, v_set(1)), v_add(v_set(1), small));
  store_delta(r, j, n, v_sub(y, t));
  return v_add(v_fnma(z, t, v_max(v_zero(), z)), v_log1p(small));
}

void DS_NAME(loss_binary_cross_entropy)(ptrdiff_t rows, ptrdiff_t cols, ds_rows output,
                                        ds_rows target, const void *weight, double scale,
                                        double *row_loss, ds_rows delta) {
  elementwise(binary_cross_entropy, 1.0 / cols, rows, cols, output, target, weight, scale / cols,
              row_loss, delta);
}

/* ---- Cross-entropy of y = softmax(z): -(sum over the outputs of t log y), with
 * log y = z - greatest - log(total); dE/dz = y - t for targets that sum to one. ---- */

DS_INLINE vec net_input(const void *context, ptrdiff_t j, ptrdiff_t n) {
  return output_part(context, j, n);
}

/* exp(z - greatest), kept where the gradient will stand. */
DS_INLINE vec exponential(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec e = v_exp(v_sub(output_part(r, j, n), v_set(r->greatest)));
  if (r->delta) v_store_part(r->delta + j, e, n);
  return e;
}

DS_INLINE void sum_exponentials(row *r, ptrdiff_t cols) {
  r->greatest = row_max(cols, net_input, r);
  r->total = row_sum(cols, exponential, r);
}

/* Element 0 of the logarithm of `total`. */
DS_INLINE real log_total(const row *r) {
  real lanes[VEC];
  v_store(lanes, v_log(v_set(r->total)));
  return lanes[0];
}

DS_INLINE vec surprise(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec t = target_part(r, j, n);
  if (r->delta) {
    store_delta(r, j, n, v_sub(v_div(v_load_part(r->delta + j, n), v_set(r->total)), t));
  }
  return v_mul(t, v_sub(v_set(r->log_sum), output_part(r, j, n)));
}

void DS_NAME(loss_cross_entropy)(ptrdiff_t rows, ptrdiff_t cols, ds_rows output, ds_rows target,
                                 const void *weight, double scale, double *row_loss,
                                 ds_rows delta) {
  for (ptrdiff_t i = 0; i < rows; i++) {
    const double w = weight ? ((const real *)weight)[i] : 1;
    row r = {.output = ds_row(output, i),
             .target = ds_row(target, i),
             .delta = delta.data ? ds_row(delta, i) : NULL,
             .scale = (real)(scale * w)};
    sum_exponentials(&r, cols);
    r.log_sum = r.greatest + log_total(&r);
    row_loss[i] = w * row_sum(cols, surprise, &r);
  }
}

/* The same for labels (rows,) int64: t is one at the label and zero elsewhere. */
void DS_NAME(loss_cross_entropy_labels)(ptrdiff_t rows, ptrdiff_t cols, ds_rows output,
                                        ds_rows target, const void *weight, double scale,
                                        double *row_loss, ds_rows delta) {
  const int64_t *labels = target.data;
  for (ptrdiff_t i = 0; i < rows; i++) {
    const double w = weight ? ((const real *)weight)[i] : 1;
    row r = {.output = ds_row(output, i), .delta = delta.data ? ds_row(delta, i) : NULL};
    sum_exponentials(&r, cols);
    row_loss[i] = w * ((r.greatest - r.output[labels[i]]) + log_total(&r));
    if (!r.delta) continue;
    const vec factor = v_set((real)(scale * w)), total = v_set(r.total);
    const real at_label = r.delta[labels[i]] / r.total - 1;
    for (ptrdiff_t j = 0; j < cols; j += VEC) {
      const vec y = v_div(v_load_part(r.delta + j, cols - j), total);
      v_store_part(r.delta + j, v_mul(factor, y), cols - j);
    }
    r.delta[labels[i]] = (real)(scale * w) * at_label;
  }
}
