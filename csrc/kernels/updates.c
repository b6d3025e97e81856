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

DS_INLINE int update_block(const int states, step_fn step, ptrdiff_t rows, ptrdiff_t cols,
                           ds_rows gradient, void *parameters, void *state_1, void *state_2,
                           ptrdiff_t stride, const void *coefficients) {
  vec c[DS_MAX_COEFFICIENTS];
  UNROLL for (int n = 0; n < DS_MAX_COEFFICIENTS; n++) {
    c[n] = v_set(((const real *)coefficients)[n]);
  }
  int overflow = 0;
  for (ptrdiff_t i = 0; i < rows; i++) {
    const real *g = ds_row(gradient, i);
    real *p = (real *)parameters + i * stride;
    real *s_1 = states > 0 ? (real *)state_1 + i * stride : NULL;
    real *s_2 = states > 1 ? (real *)state_2 + i * stride : NULL;
    for (ptrdiff_t j = 0; j < cols; j += VEC) {
      const ptrdiff_t left = cols - j;
      const element old = {v_load_part(p + j, left),
                           states > 0 ? v_load_part(s_1 + j, left) : v_zero(),
                           states > 1 ? v_load_part(s_2 + j, left) : v_zero()};
      element new = step(old, v_load_part(g + j, left), c);
      const mask finite = is_finite(new);
      if (m_any(m_not(finite))) {
        new.parameter = v_select(finite, new.parameter, old.parameter);
        new.state_1 = v_select(finite, new.state_1, old.state_1);
        new.state_2 = v_select(finite, new.state_2, old.state_2);
        overflow = 1;
      }
      v_store_part(p + j, new.parameter, left);
      if (states > 0) v_store_part(s_1 + j, new.state_1, left);
      if (states > 1) v_store_part(s_2 + j, new.state_2, left);
    }
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
 * p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps).  Hyper-parameters: lr, b1, b2, eps.
 * Kingma and Ba (2015), algorithm 1. ---- */

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
  c[6] = (real)hyper[3];
}

DS_INLINE element adam(element old, vec g, const vec *c) {
  const vec m = v_fma(c[1], old.state_1, v_mul(c[2], g));
  const vec v = v_fma(c[3], old.state_2, v_mul(v_mul(c[4], g), g));
  const vec direction = v_div(m, v_fma(v_sqrt(v), c[5], c[6]));
  return (element){v_fnma(c[0], direction, old.parameter), m, v};
}

UPDATE(adam, 2, adam)
