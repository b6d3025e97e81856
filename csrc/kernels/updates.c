/* updates.c: the optimisers.
 *
 * An optimiser is two functions: `prepare`, which turns hyper-parameters and the step's number into
 * coefficients once per step in float64, and a step on one vector of elements.  `update_block`
 * walks a block with it.  Parameters and states share one layout (rows, cols) with stride `stride`;
 * the gradient has its own.  What is done to a gradient before, or to the parameters beside, is in
 * treatment.c.
 *
 * Numeric contract: element by element, each operation rounded once and in the order written here.
 * An element whose new value or state would overflow is left as it was, and the call says so: the
 * weights stay finite whatever the gradient.  A new value or state below the normal range becomes
 * zero. */
#include <math.h>

#include "kernels.h"

typedef struct {
  vec parameter, state[DS_MAX_STATES];
} element;

typedef element (*step_fn)(element old, vec gradient, const vec *c);

/* Which elements are finite in the parameter and all states: zero times infinity is NaN, zero
 * times a finite number leaves the parameter as it is. */
DS_INLINE mask is_finite(const int states, element e) {
  vec all = e.parameter;
  UNROLL for (int k = 0; k < states; k++) all = v_fma(e.state[k], v_zero(), all);
  return v_less_equal(v_abs(all), v_set(REAL_LARGEST));
}

/* A row of each array; the optimiser has the first `states` of the states. */
typedef struct {
  const real *gradient;
  real *parameter, *state[DS_MAX_STATES];
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
  element old;
  old.parameter = load(r.parameter + j, full, n);
  UNROLL for (int k = 0; k < states; k++) old.state[k] = load(r.state[k] + j, full, n);
  element new = step(old, load(r.gradient + j, full, n), c);
  const mask finite = is_finite(states, new);
  new.parameter = without_subnormal(new.parameter);
  UNROLL for (int k = 0; k < states; k++) new.state[k] = without_subnormal(new.state[k]);
  const int overflow = !m_all(finite);
  if (__builtin_expect(overflow, 0)) {
    new.parameter = v_select(finite, new.parameter, old.parameter);
    UNROLL for (int k = 0; k < states; k++) {
      new.state[k] = v_select(finite, new.state[k], old.state[k]);
    }
  }
  store(r.parameter + j, new.parameter, full, n);
  UNROLL for (int k = 0; k < states; k++) store(r.state[k] + j, new.state[k], full, n);
  return overflow;
}

DS_INLINE int update_block(const int states, step_fn step, ptrdiff_t rows, ptrdiff_t cols,
                           ds_rows gradient, void *parameters, void *const *state, ptrdiff_t stride,
                           const void *coefficients) {
  const ptrdiff_t whole = cols - cols % VEC;
  int overflow = 0;
  vec c[DS_MAX_COEFFICIENTS];
  UNROLL for (int n = 0; n < DS_MAX_COEFFICIENTS; n++) {
    c[n] = v_set(((const real *)coefficients)[n]);
  }
  for (ptrdiff_t i = 0; i < rows; i++) {
    row r = {.gradient = ds_row(gradient, i), .parameter = (real *)parameters + i * stride};
    UNROLL for (int k = 0; k < states; k++) r.state[k] = (real *)state[k] + i * stride;
    for (ptrdiff_t j = 0; j < whole; j += VEC) {
      overflow |= update_vector(states, step, r, j, 1, VEC, c);
    }
    if (whole < cols) overflow |= update_vector(states, step, r, whole, 0, cols - whole, c);
  }
  return overflow;
}

/* The exported pair of an optimiser is DS_NAME(prepare_<name>) and DS_NAME(update_<name>). */
#define UPDATE(name, states, step)                                                               \
  int DS_NAME(update_##name)(ptrdiff_t rows, ptrdiff_t cols, ds_rows gradient, void *parameters, \
                             void *const *state, ptrdiff_t stride, const void *coefficients) {   \
    return update_block(states, step, rows, cols, gradient, parameters, state, stride,           \
                        coefficients);                                                           \
  }

/* The hyper-parameters themselves are the coefficients. */
#define PREPARE_AS_GIVEN(name, count)                                                   \
  void DS_NAME(prepare_##name)(const double *hyper, int64_t step, void *coefficients) { \
    (void)step;                                                                         \
    for (int n = 0; n < count; n++) ((real *)coefficients)[n] = (real)hyper[n];         \
  }

/* b s + (1 - b) x: a running mean; c holds b, then 1 - b. */
DS_INLINE vec mean(vec s, vec x, const vec *c) { return v_fma(c[0], s, v_mul(c[1], x)); }

/* b s + (1 - b) x^2. */
DS_INLINE vec mean_square(vec s, vec x, const vec *c) {
  return v_fma(c[0], s, v_mul(v_mul(c[1], x), x));
}

/* b and 1 - b, the latter rounded from float64. */
static void set_mean(double b, real *c) {
  c[0] = (real)b;
  c[1] = (real)(1 - b);
}

/* -1, 0 or 1. */
DS_INLINE vec sign(vec x) { return v_zero_where(v_equal(x, v_zero()), v_copysign(v_set(1), x)); }

/* beta^n by squaring: a function of (beta, n) alone, so that a resumed run needs only n; pow() may
 * differ from one C library to the next. */
static double integer_power(double beta, int64_t n) {
  double power = 1;
  for (double square = beta; n > 0; n >>= 1, square *= square) {
    if (n & 1) power *= square;
  }
  return power;
}

/* ---- Gradient descent: p -= lr g.  Hyper-parameters: lr. ---- */

PREPARE_AS_GIVEN(sgd, 1)

DS_INLINE element sgd(element old, vec g, const vec *c) {
  return (element){.parameter = v_fnma(c[0], g, old.parameter)};
}

UPDATE(sgd, 0, sgd)

/* ---- Momentum: v = mu v + g; p -= lr v.  Hyper-parameters: lr, mu.  Polyak (1964), in the form of
 * Sutskever et al. (2013) with the learning rate outside the velocity. ---- */

PREPARE_AS_GIVEN(momentum, 2)

DS_INLINE element momentum(element old, vec g, const vec *c) {
  const vec velocity = v_fma(c[1], old.state[0], g);
  return (element){v_fnma(c[0], velocity, old.parameter), {velocity}};
}

UPDATE(momentum, 1, momentum)

/* ---- Nesterov: v = mu v + g; p -= lr (g + mu v).  Hyper-parameters: lr, mu.  Nesterov (1983), as
 * Sutskever et al. (2013) write it for the parameters at the look-ahead point. ---- */

PREPARE_AS_GIVEN(nesterov, 2)

DS_INLINE element nesterov(element old, vec g, const vec *c) {
  const vec velocity = v_fma(c[1], old.state[0], g);
  const vec ahead = v_fma(c[1], velocity, g);
  return (element){v_fnma(c[0], ahead, old.parameter), {velocity}};
}

UPDATE(nesterov, 1, nesterov)

/* ---- Adam: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
 * p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps).  Hyper-parameters: lr, b1, b2, eps, hat.
 * Kingma and Ba (2015), algorithm 1; with `hat` not 0 their epsilon hat of section 2, which is added
 * to sqrt(v) before the correction. ---- */

void DS_NAME(prepare_adam)(const double *hyper, int64_t step, void *coefficients) {
  real *c = coefficients;
  c[0] = (real)(hyper[0] / (1 - integer_power(hyper[1], step)));
  set_mean(hyper[1], c + 1);
  set_mean(hyper[2], c + 3);
  const double correction = 1 / sqrt(1 - integer_power(hyper[2], step));
  c[5] = (real)correction;
  c[6] = (real)(hyper[4] != 0 ? hyper[3] * correction : hyper[3]);
}

DS_INLINE element adam(element old, vec g, const vec *c) {
  const vec m = mean(old.state[0], g, c + 1);
  const vec v = mean_square(old.state[1], g, c + 3);
  const vec direction = v_div(m, v_fma(v_sqrt(v), c[5], c[6]));
  return (element){v_fnma(c[0], direction, old.parameter), {m, v}};
}

UPDATE(adam, 2, adam)

/* ---- AMSGrad: Adam with the greatest v so far in place of v.  Reddi, Kale and Kumar (2018), with
 * Adam's corrections. ---- */

void DS_NAME(prepare_amsgrad)(const double *hyper, int64_t step, void *coefficients) {
  DS_NAME(prepare_adam)(hyper, step, coefficients);
}

DS_INLINE element amsgrad(element old, vec g, const vec *c) {
  const vec m = mean(old.state[0], g, c + 1);
  const vec v = mean_square(old.state[1], g, c + 3);
  const vec greatest = v_max(old.state[2], v);
  const vec direction = v_div(m, v_fma(v_sqrt(greatest), c[5], c[6]));
  return (element){v_fnma(c[0], direction, old.parameter), {m, v, greatest}};
}

UPDATE(amsgrad, 3, amsgrad)

/* ---- NAdam: Adam's m and v, with the momentum mu(t) = b1 (1 - q^t / 2) and Nesterov's look ahead:
 * p -= lr ((1 - mu(t)) g / (1 - M) + mu(t + 1) m / (1 - M mu(t + 1))) / (sqrt(v / (1 - b2^t)) + eps)
 * where M = mu(1) ... mu(t).  Hyper-parameters: lr, b1, b2, eps, q.  Dozat (2016). ---- */

static double nadam_momentum(const double *hyper, int64_t step) {
  return hyper[1] * (1 - 0.5 * integer_power(hyper[4], step));
}

/* M, from the beginning at each step, so that a resumed run needs only `step`.  Below 2^-60 it is
 * lost in 1 - M, which ends the product after some tens of factors. */
static double nadam_momenta(const double *hyper, int64_t step) {
  double product = 1, power = 1;
  for (int64_t t = 1; t <= step && product > 0x1p-60; t++) {
    power *= hyper[4];
    product *= hyper[1] * (1 - 0.5 * power);
  }
  return product;
}

void DS_NAME(prepare_nadam)(const double *hyper, int64_t step, void *coefficients) {
  real *c = coefficients;
  const double momenta = nadam_momenta(hyper, step), next = nadam_momentum(hyper, step + 1);
  c[0] = (real)(hyper[0] * next / (1 - momenta * next));
  set_mean(hyper[1], c + 1);
  set_mean(hyper[2], c + 3);
  c[5] = (real)(1 / sqrt(1 - integer_power(hyper[2], step)));
  c[6] = (real)hyper[3];
  c[7] = (real)(hyper[0] * (1 - nadam_momentum(hyper, step)) / (1 - momenta));
}

DS_INLINE element nadam(element old, vec g, const vec *c) {
  const vec m = mean(old.state[0], g, c + 1);
  const vec v = mean_square(old.state[1], g, c + 3);
  const vec ahead = v_fma(c[0], m, v_mul(c[7], g));
  const vec change = v_div(ahead, v_fma(v_sqrt(v), c[5], c[6]));
  return (element){v_sub(old.parameter, change), {m, v}};
}

UPDATE(nadam, 2, nadam)

/* ---- RAdam: Adam's m and v.  With s = 2 / (1 - b2) - 1 and s(t) = s - 2 t b2^t / (1 - b2^t),
 * while s(t) <= 5:  p -= lr m / (1 - b1^t);  then with r^2 = (s(t) - 4) (s(t) - 2) s / ((s - 4)
 * (s - 2) s(t)):  p -= lr m / (1 - b1^t) r sqrt(1 - b2^t) / (sqrt(v) + eps).
 * Hyper-parameters: lr, b1, b2, eps.  Liu et al. (2020).  The step is Adam's with other
 * coefficients: before, the root of v counts for nothing. ---- */

void DS_NAME(prepare_radam)(const double *hyper, int64_t step, void *coefficients) {
  real *c = coefficients;
  const double power = integer_power(hyper[2], step);
  const double limit = 2 / (1 - hyper[2]) - 1;
  const double length = limit - 2 * (double)step * power / (1 - power);
  const int rectified = length > 5;
  double factor = 1;
  if (rectified) {
    factor = sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)) *
             sqrt(1 - power);
  }
  c[0] = (real)(hyper[0] / (1 - integer_power(hyper[1], step)) * factor);
  set_mean(hyper[1], c + 1);
  set_mean(hyper[2], c + 3);
  c[5] = (real)rectified;
  c[6] = rectified ? (real)hyper[3] : 1;
}

UPDATE(radam, 2, adam)

/* ---- Adagrad: s += g^2; p -= lr g / (sqrt(s) + eps).  Hyper-parameters: lr, eps.  Duchi, Hazan and
 * Singer (2011), the diagonal form. ---- */

PREPARE_AS_GIVEN(adagrad, 2)

DS_INLINE element adagrad(element old, vec g, const vec *c) {
  const vec sum = v_fma(g, g, old.state[0]);
  const vec direction = v_div(g, v_add(v_sqrt(sum), c[1]));
  return (element){v_fnma(c[0], direction, old.parameter), {sum}};
}

UPDATE(adagrad, 1, adagrad)

/* ---- RMSProp: v = a v + (1 - a) g^2; p -= lr g / (sqrt(v) + eps).  With momentum, the direction
 * goes through b = mu b + g / (sqrt(v) + eps); centred, the square of a running mean of g is taken
 * off v.  Hyper-parameters: lr, a, eps, mu.  Tieleman and Hinton (2012); centred: Graves (2013). ---- */

void DS_NAME(prepare_rmsprop)(const double *hyper, int64_t step, void *coefficients) {
  real *c = coefficients;
  (void)step;
  c[0] = (real)hyper[0];
  set_mean(hyper[1], c + 1);
  c[3] = (real)hyper[2];
  c[4] = (real)hyper[3];
}

DS_INLINE element rmsprop(element old, vec g, const vec *c) {
  const vec v = mean_square(old.state[0], g, c + 1);
  const vec direction = v_div(g, v_add(v_sqrt(v), c[3]));
  return (element){v_fnma(c[0], direction, old.parameter), {v}};
}

UPDATE(rmsprop, 1, rmsprop)

void DS_NAME(prepare_rmsprop_momentum)(const double *hyper, int64_t step, void *coefficients) {
  DS_NAME(prepare_rmsprop)(hyper, step, coefficients);
}

DS_INLINE element rmsprop_momentum(element old, vec g, const vec *c) {
  const vec v = mean_square(old.state[0], g, c + 1);
  const vec velocity = v_fma(c[4], old.state[1], v_div(g, v_add(v_sqrt(v), c[3])));
  return (element){v_fnma(c[0], velocity, old.parameter), {v, velocity}};
}

UPDATE(rmsprop_momentum, 2, rmsprop_momentum)

void DS_NAME(prepare_rmsprop_centered)(const double *hyper, int64_t step, void *coefficients) {
  DS_NAME(prepare_rmsprop)(hyper, step, coefficients);
}

DS_INLINE element rmsprop_centered(element old, vec g, const vec *c) {
  const vec v = mean_square(old.state[0], g, c + 1);
  const vec m = mean(old.state[2], g, c + 1);
  /* a variance, but for rounding errors that could make it negative */
  const vec spread = v_sqrt(v_max(v_fnma(m, m, v), v_zero()));
  const vec velocity = v_fma(c[4], old.state[1], v_div(g, v_add(spread, c[3])));
  return (element){v_fnma(c[0], velocity, old.parameter), {v, velocity, m}};
}

UPDATE(rmsprop_centered, 3, rmsprop_centered)

/* ---- Adadelta: v = rho v + (1 - rho) g^2; d = g sqrt(u + eps) / sqrt(v + eps);
 * u = rho u + (1 - rho) d^2; p -= lr d.  Hyper-parameters: lr, rho, eps.  Zeiler (2012). ---- */

void DS_NAME(prepare_adadelta)(const double *hyper, int64_t step, void *coefficients) {
  real *c = coefficients;
  (void)step;
  c[0] = (real)hyper[0];
  set_mean(hyper[1], c + 1);
  c[3] = (real)hyper[2];
}

DS_INLINE element adadelta(element old, vec g, const vec *c) {
  const vec v = mean_square(old.state[0], g, c + 1);
  const vec ratio = v_div(v_sqrt(v_add(old.state[1], c[3])), v_sqrt(v_add(v, c[3])));
  const vec change = v_mul(ratio, g);
  const vec u = mean_square(old.state[1], change, c + 1);
  return (element){v_fnma(c[0], change, old.parameter), {v, u}};
}

UPDATE(adadelta, 2, adadelta)

/* ---- Lion: p -= lr sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g.  Hyper-parameters: lr, b1, b2.
 * Chen et al. (2023). ---- */

void DS_NAME(prepare_lion)(const double *hyper, int64_t step, void *coefficients) {
  real *c = coefficients;
  (void)step;
  c[0] = (real)hyper[0];
  set_mean(hyper[1], c + 1);
  set_mean(hyper[2], c + 3);
}

DS_INLINE element lion(element old, vec g, const vec *c) {
  const vec direction = sign(mean(old.state[0], g, c + 1));
  return (element){v_fnma(c[0], direction, old.parameter), {mean(old.state[0], g, c + 3)}};
}

UPDATE(lion, 1, lion)

/* ---- Rprop: each element has its own step d, in units of the learning rate.  Where g has kept its
 * sign since the last step d grows by the factor `plus`; where it has changed, d shrinks by the
 * factor `minus` and g counts as zero; d stays within its bounds.  p -= lr d sign(g).
 * Hyper-parameters: lr, minus, plus, least and greatest step.  Riedmiller and Braun (1993), without
 * taking a step back (Igel and Huesken, 2003: iRprop-). ---- */

void DS_NAME(prepare_rprop)(const double *hyper, int64_t step, void *coefficients) {
  real *c = coefficients;
  const double unit = hyper[0] > 0 ? hyper[0] : 1; /* with lr = 0 no step is made */
  (void)step;
  c[0] = (real)hyper[0];
  c[1] = (real)hyper[1];
  c[2] = (real)hyper[2];
  c[3] = (real)(hyper[3] / unit);
  c[4] = (real)(hyper[4] / unit);
}

DS_INLINE element rprop(element old, vec g, const vec *c) {
  const vec zero = v_zero(), agreement = v_mul(sign(g), sign(old.state[0]));
  const mask turned = v_less(agreement, zero);
  const vec factor = v_select(turned, c[1], v_select(v_less(zero, agreement), c[2], v_set(1)));
  const vec d = v_min(v_max(v_mul(old.state[1], factor), c[3]), c[4]);
  const vec kept = v_select(turned, v_mul(g, zero), g); /* NaN if g is not finite */
  return (element){v_fnma(c[0], v_mul(d, sign(kept)), old.parameter), {kept, d}};
}

UPDATE(rprop, 2, rprop)
