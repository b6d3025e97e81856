/* losses.c: the loss of each row and its gradient, in one pass over the columns.
 *
 * A loss is a function of one vector of a row, which returns the columns' terms and stores the
 * gradient on the way, and a LOSS that sums the terms (lanes.h) and scales.  output and delta are
 * (rows, cols); target is (rows, cols) where nothing else is said; row_loss is float64.
 *
 * Numeric contract: terms are computed in `real`, column by column; their sum runs in DS_LANES
 * lanes; the rows' losses leave as float64.  The cross-entropies read the net input, so that no
 * logarithm is taken of a rounded probability.  At a kink the gradient is zero. */
#include "elementary.h"
#include "kernels.h"
#include "lanes.h"

/* What a kernel is given. */
typedef struct {
  ptrdiff_t rows, cols;
  ds_rows output, target;
  const real *weight;
  double scale;
  const double *parameters;
  double *row_loss;
  ds_rows delta;
} batch;

/* Defines the kernel `name` of the table as a function of a batch. */
#define LOSS(name)                                                                            \
  DS_INLINE void loss_##name(const batch *b);                                                 \
  void DS_NAME(loss_##name)(ptrdiff_t rows, ptrdiff_t cols, ds_rows output, ds_rows target,   \
                            const void *weight, double scale, const double *parameters,       \
                            double *row_loss, ds_rows delta) {                                \
    const batch b = {rows, cols, output, target, weight, scale, parameters, row_loss, delta}; \
    loss_##name(&b);                                                                          \
  }                                                                                           \
  DS_INLINE void loss_##name(const batch *b)

/* One row: what it reads, where its gradient goes (NULL: nowhere) and by what that is scaled. */
typedef struct {
  const real *output, *target;
  const double *parameters;
  ptrdiff_t half; /* cols / 2 */
  real *delta;
  real scale;
  real greatest, total; /* softmax: the greatest net input, the sum of exp(z - greatest), */
  real log_sum;         /* greatest + log(total), so that -log y = log_sum - z */
  real keep, share;     /* label smoothing: a target t counts as keep t + share */
} row;

/* Terms of many instructions: inlined, they would stand in every round and ragged end of a sum. */
#define LONG_TERMS static __attribute__((noinline)) vec

DS_INLINE double weight_of(const batch *b, ptrdiff_t i) { return b->weight ? b->weight[i] : 1; }

DS_INLINE vec target_part(const row *r, ptrdiff_t j, ptrdiff_t n) {
  return v_load_part(r->target + j, n);
}

DS_INLINE vec output_part(const row *r, ptrdiff_t j, ptrdiff_t n) {
  return v_load_part(r->output + j, n);
}

DS_INLINE void store_delta(const row *r, ptrdiff_t j, ptrdiff_t n, vec gradient) {
  if (r->delta) v_store_part(r->delta + j, v_mul(v_set(r->scale), gradient), n);
}

DS_INLINE vec parameter(const row *r, int index) { return v_set((real)r->parameters[index]); }

/* The losses of all rows: loss_scale times the sum of the terms of `columns` columns. */
DS_INLINE void each_row(const batch *b, ptrdiff_t columns, row_values terms, double loss_scale,
                        double scale) {
  for (ptrdiff_t i = 0; i < b->rows; i++) {
    const double w = weight_of(b, i);
    const row r = {.output = ds_row(b->output, i),
                   .target = ds_row(b->target, i),
                   .parameters = b->parameters,
                   .half = b->cols / 2,
                   .delta = b->delta.data ? ds_row(b->delta, i) : NULL,
                   .scale = (real)(scale * w)};
    b->row_loss[i] = w * loss_scale * row_sum(columns, terms, &r);
  }
}

/* The same for a single column without weights, whose rows lie as the columns of one row do: a sum
 * of one term is the term. */
DS_INLINE void each_row_of_one(const batch *b, row_values terms, double loss_scale, double scale) {
  const row r = {.output = b->output.data,
                 .target = b->target.data,
                 .parameters = b->parameters,
                 .delta = b->delta.data,
                 .scale = (real)scale};
  for (ptrdiff_t i = 0; i < b->rows; i += VEC) {
    const ptrdiff_t n = b->rows - i < VEC ? b->rows - i : VEC;
    real lanes[VEC];
    v_store(lanes, terms(&r, i, n));
    for (ptrdiff_t l = 0; l < n; l++) b->row_loss[i + l] = loss_scale * lanes[l];
  }
}

/* Terms that are the same function of every column. */
DS_INLINE void elementwise(const batch *b, row_values terms, double loss_scale, double scale) {
  if (b->cols == 1 && b->output.stride == 1 && b->target.stride == 1 && !b->weight &&
      (!b->delta.data || b->delta.stride == 1)) {
    each_row_of_one(b, terms, loss_scale, scale);
  } else {
    each_row(b, b->cols, terms, loss_scale, scale);
  }
}

DS_INLINE void mean_of(const batch *b, row_values terms) {
  elementwise(b, terms, 1.0 / b->cols, b->scale / b->cols);
}

/* ---- Regression.  e = y - t ---- */

DS_INLINE vec error_part(const row *r, ptrdiff_t j, ptrdiff_t n) {
  return v_sub(output_part(r, j, n), target_part(r, j, n));
}

DS_INLINE vec squared_error(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec error = error_part(r, j, n);
  store_delta(r, j, n, error);
  return v_mul(error, error);
}

/* The sum over the outputs of e^2 / 2. */
LOSS(half_squared_error) { elementwise(b, squared_error, 0.5, b->scale); }

/* The mean over the outputs of e^2. */
LOSS(mse) { elementwise(b, squared_error, 1.0 / b->cols, 2 * b->scale / b->cols); }

/* above where 0 < x, below where x < 0, else x: zero or NaN. */
DS_INLINE vec by_sign(vec x, vec above, vec below) {
  return v_select(v_less(v_zero(), x), above, v_select(v_less(x, v_zero()), below, x));
}

DS_INLINE vec absolute_error(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec error = error_part(r, j, n);
  store_delta(r, j, n, by_sign(error, v_set(1), v_set(-1)));
  return v_abs(error);
}

/* The mean over the outputs of |e|. */
LOSS(mae) { mean_of(b, absolute_error); }

DS_INLINE vec huber(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec error = error_part(r, j, n), size = v_abs(error);
  const vec clipped = v_min(parameter(r, 0), size);
  store_delta(r, j, n, v_copysign(clipped, error));
  return v_mul(clipped, v_fnma(v_set((real)0.5), clipped, size));
}

/* The mean over the outputs of e^2 / 2 up to |e| = delta, then of delta (|e| - delta / 2).
 * parameters: delta. */
LOSS(huber) { mean_of(b, huber); }

/* log cosh e with p = exp(-|e|): log(1 + (1 - p)^2 / 2p) for small |e|, where it is nearly e^2 / 2,
 * else |e| - log 2 + log(1 + p^2). */
LONG_TERMS log_cosh(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec error = error_part(r, j, n), size = v_abs(error);
  const vec less = v_expm1(v_neg(size)), p = v_add(v_set(1), less);
  const mask small = v_less(size, v_set(1));
  const vec rest = v_select(small, v_div(v_mul(less, less), v_add(p, p)), v_mul(p, p));
  const vec most = v_zero_where(small, v_sub(size, v_set((real)0.69314718055994531)));
  store_delta(r, j, n, v_tanh(error));
  return v_add(most, v_log1p(rest));
}

/* The mean over the outputs of log cosh e. */
LOSS(log_cosh) { mean_of(b, log_cosh); }

DS_INLINE vec pinball(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  real levels[VEC] = {0};
  for (ptrdiff_t l = 0; l < n; l++) levels[l] = (real)r->parameters[j + l];
  const vec above = v_load(levels), missing = v_neg(error_part(r, j, n));
  const vec slope = by_sign(missing, above, v_sub(above, v_set(1)));
  store_delta(r, j, n, v_neg(slope));
  return v_mul(slope, missing);
}

/* The mean over the outputs of level (t - y) where y < t, and of (1 - level) (y - t) where y > t.
 * parameters: the level of each output. */
LOSS(quantile) { each_row(b, b->cols, pinball, 1.0 / b->cols, b->scale / b->cols); }

/* ---- Likelihoods: of a rate and of a mean with its variance ---- */

LONG_TERMS poisson(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec y = output_part(r, j, n), t = target_part(r, j, n), rate = v_exp(y);
  store_delta(r, j, n, v_sub(rate, t));
  return v_fnma(t, y, rate);
}

/* The mean over the outputs of exp(y) - t y, y being the logarithm of the rate. */
LOSS(poisson) { mean_of(b, poisson); }

/* Column j of the targets with the mean in column j of the outputs and the logarithm of the
 * variance in column half + j. */
LONG_TERMS gaussian(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec log_variance = output_part(r, r->half + j, n), error = error_part(r, j, n);
  const vec pull = v_mul(error, v_exp(v_neg(log_variance))), square = v_mul(error, pull);
  const vec half = v_set((real)0.5);
  store_delta(r, j, n, pull);
  store_delta(r, r->half + j, n, v_fnma(half, square, half));
  return v_add(log_variance, square);
}

/* The mean over the targets (rows, cols / 2) of (s + (y - t)^2 / exp(s)) / 2 with means y and
 * logarithms of variances s. */
LOSS(gaussian_nll) {
  const ptrdiff_t targets = b->cols / 2;
  each_row(b, targets, gaussian, 0.5 / targets, b->scale / targets);
}

/* ---- Two classes ---- */

DS_INLINE vec hinge(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec t = target_part(r, j, n), missing = v_fnma(t, output_part(r, j, n), v_set(1));
  store_delta(r, j, n, v_zero_where(v_less_equal(missing, v_zero()), v_neg(t)));
  return v_max(v_zero(), missing);
}

/* The mean over the outputs of max(0, 1 - t y), t = -1 or 1. */
LOSS(hinge) { mean_of(b, hinge); }

/* Binary cross-entropy of y = sigmoid(z): -(t log y + (1 - t) log(1 - y)) =
 * max(z, 0) - z t + log(1 + exp(-|z|)); dE/dz = y - t. */
LONG_TERMS binary_cross_entropy(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec z = output_part(r, j, n), t = target_part(r, j, n);
  const vec small = v_exp(v_neg(v_abs(z)));
  const mask negative = v_less(z, v_zero());
  const vec y = v_div(v_select(negative, small, v_set(1)), v_add(v_set(1), small));
  store_delta(r, j, n, v_sub(y, t));
  return v_add(v_fnma(z, t, v_max(v_zero(), z)), v_log1p(small));
}

/* The mean over the outputs. */
LOSS(binary_cross_entropy) { mean_of(b, binary_cross_entropy); }

/* With u = z for t = 1 and -z for t = 0, the right answer's probability is p = sigmoid(u) and the
 * loss -a (1 - p)^gamma log p, a = alpha for t = 1 and 1 - alpha for t = 0; its derivative by u is
 * -a (1 - p)^gamma (1 - p - gamma p log p). */
LONG_TERMS binary_focal(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec one = v_set(1), zero = v_zero(), z = output_part(r, j, n);
  const vec gamma = parameter(r, 0), alpha = parameter(r, 1);
  const mask positive = v_less(zero, target_part(r, j, n));
  const vec u = v_select(positive, z, v_neg(z)), small = v_exp(v_neg(v_abs(u)));
  const vec log_sum = v_log1p(small), minus_log_p = v_add(v_max(zero, v_neg(u)), log_sum);
  const vec power = v_exp(v_mul(gamma, v_neg(v_add(v_max(zero, u), log_sum))));
  const vec factor = v_mul(v_select(positive, alpha, v_sub(one, alpha)), power);

  const vec larger = v_div(one, v_add(one, small)), smaller = v_mul(small, larger);
  const mask wrong = v_less(u, zero);
  const vec p = v_select(wrong, smaller, larger), rest = v_select(wrong, larger, smaller);
  const vec slope = v_mul(factor, v_fma(v_mul(gamma, p), minus_log_p, rest));
  store_delta(r, j, n, v_select(positive, v_neg(slope), slope));
  return v_mul(factor, minus_log_p);
}

/* The mean over the outputs.  parameters: gamma, alpha. */
LOSS(binary_focal) { mean_of(b, binary_focal); }

/* ---- Cross-entropy of y = softmax(z): -(sum over the outputs of t log y), with
 * log y = z - greatest - log(total); dE/dz = y - t for targets that sum to one.
 * parameters: the label smoothing s, by which each t counts as (1 - s) t + s / cols. ---- */

DS_INLINE row softmax_row(const batch *b, ptrdiff_t i) {
  return (row){.output = ds_row(b->output, i),
               .parameters = b->parameters,
               .delta = b->delta.data ? ds_row(b->delta, i) : NULL,
               .scale = (real)(b->scale * weight_of(b, i))};
}

DS_INLINE row smoothed_row(const batch *b, ptrdiff_t i) {
  const double smoothing = b->parameters[0];
  row r = softmax_row(b, i);
  r.keep = (real)(1 - smoothing);
  r.share = (real)(smoothing / b->cols);
  return r;
}

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

DS_INLINE real first_lane(vec x) {
  real lanes[VEC];
  v_store(lanes, x);
  return lanes[0];
}

DS_INLINE real log_total(const row *r) { return first_lane(v_log(v_set(r->total))); }

DS_INLINE vec surprise(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec t = v_fma(v_set(r->keep), target_part(r, j, n), v_set(r->share));
  if (r->delta) {
    store_delta(r, j, n, v_sub(v_div(v_load_part(r->delta + j, n), v_set(r->total)), t));
  }
  return v_mul(t, v_sub(v_set(r->log_sum), output_part(r, j, n)));
}

LOSS(cross_entropy) {
  for (ptrdiff_t i = 0; i < b->rows; i++) {
    row r = smoothed_row(b, i);
    r.target = ds_row(b->target, i);
    sum_exponentials(&r, b->cols);
    r.log_sum = r.greatest + log_total(&r);
    b->row_loss[i] = weight_of(b, i) * row_sum(b->cols, surprise, &r);
  }
}

DS_INLINE vec below_greatest(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  return v_sub(v_set(r->greatest), output_part(r, j, n));
}

/* The same for labels (rows,) int64: t is one at the label and zero elsewhere. */
LOSS(cross_entropy_labels) {
  const int64_t *labels = b->target.data;
  const double smoothing = b->parameters[0];
  for (ptrdiff_t i = 0; i < b->rows; i++) {
    row r = smoothed_row(b, i);
    sum_exponentials(&r, b->cols);
    const real log_sum = log_total(&r);
    double loss = (r.greatest - r.output[labels[i]]) + log_sum;
    if (smoothing > 0) {
      const double mean = (double)row_sum(b->cols, below_greatest, &r) / b->cols + log_sum;
      loss = (1 - smoothing) * loss + smoothing * mean;
    }
    b->row_loss[i] = weight_of(b, i) * loss;
    if (!r.delta) continue;
    const vec total = v_set(r.total), share = v_set(r.share);
    const real at_label = r.delta[labels[i]] / r.total - (r.keep + r.share);
    for (ptrdiff_t j = 0; j < b->cols; j += VEC) {
      const vec y = v_div(v_load_part(r.delta + j, b->cols - j), total);
      store_delta(&r, j, b->cols - j, v_sub(y, share));
    }
    r.delta[labels[i]] = r.scale * at_label;
  }
}

/* ---- Focal loss of y = softmax(z): the sum over the outputs of t f(y), f(y) = -(1 - y)^gamma log y.
 * With g = y f'(y) = (1 - y)^gamma (gamma y log y / (1 - y) - 1), dE/dz = t g - y (sum of t g).
 * parameters: gamma. ---- */

/* f and g from log y, by 1 - y > 0: where y is 1, g has a 0 / 0 that the power takes to zero. */
DS_INLINE vec focal(const row *r, vec log_y, vec *g) {
  const vec one = v_set(1), gamma = parameter(r, 0);
  const vec rest = v_max(v_set(REAL_SMALLEST), v_neg(v_expm1(log_y)));
  const vec power = v_exp(v_mul(gamma, v_log(rest)));
  const vec steepness = v_div(v_mul(v_mul(gamma, v_sub(one, rest)), log_y), rest);
  *g = v_mul(power, v_sub(steepness, one));
  return v_neg(v_mul(power, log_y));
}

DS_INLINE vec log_part(const row *r, ptrdiff_t j, ptrdiff_t n) {
  return v_sub(output_part(r, j, n), v_set(r->log_sum));
}

/* t f, and t g where the gradient will stand. */
LONG_TERMS focal_terms(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  const vec t = target_part(r, j, n);
  vec g, loss = focal(r, log_part(r, j, n), &g);
  if (r->delta) v_store_part(r->delta + j, v_mul(t, g), n);
  return v_mul(t, loss);
}

DS_INLINE vec kept(const void *context, ptrdiff_t j, ptrdiff_t n) {
  const row *r = context;
  return v_load_part(r->delta + j, n);
}

LOSS(focal) {
  for (ptrdiff_t i = 0; i < b->rows; i++) {
    row r = softmax_row(b, i);
    r.target = ds_row(b->target, i);
    sum_exponentials(&r, b->cols);
    r.log_sum = r.greatest + log_total(&r);
    b->row_loss[i] = weight_of(b, i) * row_sum(b->cols, focal_terms, &r);
    if (!r.delta) continue;
    const vec sum = v_set(row_sum(b->cols, kept, &r));
    for (ptrdiff_t j = 0; j < b->cols; j += VEC) {
      const ptrdiff_t n = b->cols - j;
      const vec y = v_exp(log_part(&r, j, n));
      store_delta(&r, j, n, v_fnma(y, sum, kept(&r, j, n)));
    }
  }
}

/* The same for labels (rows,) int64: dE/dz = -y g, but at the label (1 - y) g. */
LOSS(focal_labels) {
  const int64_t *labels = b->target.data;
  for (ptrdiff_t i = 0; i < b->rows; i++) {
    row r = softmax_row(b, i);
    sum_exponentials(&r, b->cols);
    vec g, log_y = v_set((r.output[labels[i]] - r.greatest) - log_total(&r));
    b->row_loss[i] = weight_of(b, i) * first_lane(focal(&r, log_y, &g));
    if (!r.delta) continue;
    for (ptrdiff_t j = 0; j < b->cols; j += VEC) {
      const ptrdiff_t n = b->cols - j;
      const vec y = v_div(kept(&r, j, n), v_set(r.total));
      store_delta(&r, j, n, v_neg(v_mul(y, g)));
    }
    r.delta[labels[i]] = r.scale * first_lane(v_mul(v_neg(v_expm1(log_y)), g));
  }
}
