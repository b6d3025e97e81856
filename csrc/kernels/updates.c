/* updates.c: the optimisers.
 *
 * An optimiser is two functions: `prepare`, which turns hyper-parameters and the step's number into
 * coefficients once per step in float64, and a step on one vector of elements.  `update_block`
 * walks a block with it.  Parameters and states share one layout (rows, cols) with stride `stride`;
 * the gradient has its own.
 *
 * Numeric contract: element by element, each operation rounded once and in the order written here.
 * An element whose new value or state would overflow is left as it was, and the call says so: the
 * weights stay finite whatever the gradient. */
#include <math.h>

#include "kernels.h"

typedef struct {
  vec parameter, state_1, state_2;
} element;

typedef element (*step_fn)(element old, vec gradient, const vec *c);

/* Which elements are finite in the parameter and both states: zero times infinity is NaN, zero
 * times a finite number leaves the parameter as it is. */
DS_INLINE mask is_finite(element e) {
  const vec zero = v_zero();
  const vec all = v_fma(e.state_2, zero, v_fma(e.state_1, zero, e.parameter));
  return v_less_equal(v_abs(all), v_set(REAL_LARGEST));
}

/* A row of each array, or NULL where the optimiser has no such state. */
typedef struct {
  const real *gradient;
  real *parameter, *state_1, *state_2;
} row;

DS_INLINE vec load(const real *p, int full, ptrdiff_t n) {
  return full ? v_load(p) : v_load_first(p, n);
}

DS_INLINE void store(real *p, vec v, int full, ptrdiff_t n) {
  if (full) {
    v_store(p, v);
  } else {
    v_store_first(p, v, n);
  }
}

/* The step on the elements j .. of a row: a whole vector, or the first n of one.  Returns whether
 * one of them would overflow. */
DS_INLINE int update_vector(const int states, step_fn step, row r, ptrdiff_t j, const int full,
                            ptrdiff_t n, const vec *c) {
  const element old = {load(r.parameter + j, full, n),
                       states > 0 ? load(r.state_1 + j, full, n) : v_zero(),
                       states > 1 ? load(r.state_2 + j, full, n) : v_zero()};
  element new = step(old, load(r.gradient + j, full, n), c);
  const mask finite = is_finite(new);
  const int overflow = m_any(m_not(finite));
  if (__builtin_expect(overflow, 0)) {
    new.parameter = v_select(finite, new.parameter, old.parameter);
    new.state_1 = v_select(finite, new.state_1, old.state_1);
    new.state_2 = v_select(finite, new.state_2, old.state_2);
  }
  store(r.parameter + j, new.parameter, full, n);
  if (states > 0) store(r.state_1 + j, new.state_1, full, n);
  if (states > 1) store(r.state_2 + j, new.state_2, full, n);
  return overflow;
}

DS_INLINE int update_block(const int states, step_fn step, ptrdiff_t rows, ptrdiff_t cols,
                           ds_rows gradient, void *parameters, void *state_1, void *state_2,
                           ptrdiff_t stride, const void *coefficients) {
  const ptrdiff_t whole = cols - cols % VEC;
  int overflow = 0;
  vec c[DS_MAX_COEFFICIENTS];
  UNROLL for (int n = 0; n < DS_MAX_COEFFICIENTS; n++) {
    c[n] = v_set(((const real *)coefficients)[n]);
  }
  for (ptrdiff_t i = 0; i < rows; i++) {
    const row r = {ds_row(gradient, i), (real *)parameters + i * stride,
                   states > 0 ? (real *)state_1 + i * stride : NULL,
                   states > 1 ? (real *)state_2 + i * stride : NULL};
    for (ptrdiff_t j = 0; j < whole; j += VEC) {
      overflow |= update_vector(states, step, r, j, 1, VEC, c);
    }
    if (whole < cols) overflow |= update_vector(states, step, r, whole, 0, cols - whole, c);
  }
  return overflow;
}

/* The exported pair of an optimiser is ds_prepare_<name> and ds_update_<name>. */
#define UPDATE(name, states, step)                                                                \
  int DS_NAME(update_##name)(ptrdiff_t rows, ptrdiff_t cols, ds_rows gradient, void *parameters,  \
                             void *state_1, void *state_2, ptrdiff_t stride,                      \
                             const void *coefficients) {                                          \
    return update_block(states, step, rows, cols, gradient, parameters, state_1, state_2, stride, \
                        coefficients);                                                            \
  }

/* ---- Gradient descent: p -= lr g.  Hyper-parameters: lr. ---- */

void DS_NAME(prepare_sgd)(const double *hyper, int64_t step, void *coefficients) {
  real *c = coefficients;
  (void)step;
  c[0] = (real)hyper[0];
}

DS_INLINE element sgd(element old, vec g, const vec *c) {
  return (element){v_fnma(c[0], g, old.parameter), old.state_1, old.state_2};
}

UPDATE(sgd, 0, sgd)

/* ---- Momentum: v = mu v + g; p -= lr v.  Hyper-parameters: lr, mu.  Polyak (1964), in the form of
 * Sutskever et al. (2013) with the learning rate outside the velocity. ---- */

void DS_NAME(prepare_momentum)(const double *hyper, int64_t step, void *coefficients) {
  real *c = coefficients;
  (void)step;
  c[0] = (real)hyper[0];
  c[1] = (real)hyper[1];
}

DS_INLINE element momentum(element old, vec g, const vec *c) {
  const vec velocity = v_fma(c[1], old.state_1, g);
  return (element){v_fnma(c[0], velocity, old.parameter), velocity, old.state_2};
}

UPDATE(momentum, 1, momentum)

/* ---- Nesterov: v = mu v + g; p -= lr (g + mu v).  Hyper-parameters: lr, mu.  Nesterov (1983), as
 * Sutskever et al. (2013) write it for the parameters at the look-ahead point. ---- */

void DS_NAME(prepare_nesterov)(const double *hyper, int64_t step, void *coefficients) {
  DS_NAME(prepare_momentum)(hyper, step, coefficients);
}

DS_INLINE element nesterov(element old, vec g, const vec *c) {
  const vec velocity = v_fma(c[1], old.state_1, g);
  const vec ahead = v_fma(c[1], velocity, g);
  return (element){v_fnma(c[0], ahead, old.parameter), velocity, old.state_2};
}

UPDATE(nesterov, 1, nesterov)

/* ---- Adam: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
 * p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps).  Hyper-parameters: lr, b1, b2, eps, hat.
 * Kingma and Ba (2015), algorithm 1; with `hat` not 0 their epsilon hat of section 2, which is added
 * to sqrt(v) before the correction. ---- */

/* beta^n by squaring: a function of (beta, n) alone, so that a resumed run needs only n; pow() may
 * differ from one C library to the next. */
static double integer_power(double beta, int64_t n) {
  double power = 1;
  for (double square = beta; n > 0; n >>= 1, square *= square) {
    if (n & 1) power *= square;
  }
  return power;
}

void DS_NAME(prepare_adam)(const double *hyper, int64_t step, void *coefficients) {
  real *c = coefficients;
  const double beta_1 = hyper[1], beta_2 = hyper[2];
  c[0] = (real)(hyper[0] / (1 - integer_power(beta_1, step)));
  c[1] = (real)beta_1;
  c[2] = (real)(1 - beta_1);
  c[3] = (real)beta_2;
  c[4] = (real)(1 - beta_2);
  c[5] = (real)(1 / sqrt(1 - integer_power(beta_2, step)));
  c[6] = hyper[4] != 0 ? (real)(hyper[3] / sqrt(1 - integer_power(beta_2, step))) : (real)hyper[3];
}

DS_INLINE element adam(element old, vec g, const vec *c) {
  const vec m = v_fma(c[1], old.state_1, v_mul(c[2], g));
  const vec v = v_fma(c[3], old.state_2, v_mul(v_mul(c[4], g), g));
  const vec direction = v_div(m, v_fma(v_sqrt(v), c[5], c[6]));
  return (element){v_fnma(c[0], direction, old.parameter), m, v};
}

UPDATE(adam, 2, adam)
