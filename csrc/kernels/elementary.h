/* elementary.h: exp, log and their relatives on vectors, for float and double.
 *
 * Written once over simd.h, without branches and tables: the same operations in the same order on
 * every instruction set, so the same bits.  Polynomials and constants come from coefficients.h.
 *
 * Everywhere: a NaN gives a NaN, the limits at +-inf are right, results below the normal range are
 * rounded as all others.  The zero of expm1 and log1p is +0.
 *
 * Above each function stands the greatest error that was measured, in ULP of the true value, for
 * float (every 41st number; all of them where it is worst: 0.01 < |x| < 4, erfc 2^-13 < x < 1) /
 * double (100 000 numbers of all magnitudes, against mpmath; erfc 300 000). */
#ifndef DS_ELEMENTARY_H
#define DS_ELEMENTARY_H

#include <math.h>

#include "../simd/simd.h"
#include "coefficients.h"

/* A constant that differs between float and double. */
#define BY_TYPE(for_float, for_double) ((real)(DS_FLOAT_BITS == 32 ? (for_float) : (for_double)))

/* Unroll the loop over a polynomial's coefficients, however many. */
#define UNROLL_TERMS _Pragma("GCC unroll 32")

#define TERMS(coefficients) ((int)(sizeof(coefficients) / sizeof(coefficients[0])))
#define POLYNOMIAL(x, coefficients) polynomial(x, coefficients, TERMS(coefficients))

/* c[0] + c[1] x + ... + c[terms - 1] x^(terms - 1): even and odd powers side by side, which halves
 * the chain of dependent operations. */
DS_INLINE vec polynomial(vec x, const real *c, int terms) {
  vec square = v_mul(x, x), sum[2] = {v_set(c[terms - 1]), v_set(c[terms - 2])};
  UNROLL_TERMS for (int i = terms - 3; i >= 0; i--) {
    int parity = (terms - 1 - i) % 2;
    sum[parity] = v_fma(sum[parity], square, v_set(c[i]));
  }
  return terms % 2 ? v_fma(sum[1], x, sum[0]) : v_fma(sum[0], x, sum[1]);
}

/* ---- exp: x = n ln 2 + r, exp(x) = 2^n (1 + expm1(r)), |r| <= ln(2) / 2 ---- */

DS_INLINE vec exp_exponent(vec x) { return v_round(v_mul(x, v_set(LOG2_E))); }

DS_INLINE vec exp_remainder(vec x, vec n) {
  return v_fnma(n, v_set(LN2_LOW), v_fnma(n, v_set(LN2_HIGH), x));
}

DS_INLINE vec expm1_remainder(vec r) { return v_fma(v_mul(r, r), POLYNOMIAL(r, EXPM1), r); }

/* exp(x) for x that is not above the range of exp. */
DS_INLINE vec exp_bounded(vec x) {
  x = v_max(v_set(BY_TYPE(-104, -746)), x);
  vec n = exp_exponent(x);
  return v_scale(v_add(v_set(1), expm1_remainder(exp_remainder(x, n))), n);
}

/* exp(x): 1.05 / 0.99 ULP. */
DS_INLINE vec v_exp(vec x) { return exp_bounded(v_min(v_set(BY_TYPE(89, 710)), x)); }

/* exp(x) - 1 = 2^n expm1(r) + (2^n - 1), all halved until the end, lest 2^n overflow: 1.68 / 1.96
 * ULP. */
DS_INLINE vec v_expm1(vec x) {
  x = v_min(v_set(BY_TYPE(89, 710)), v_max(v_set(-40), x));
  vec n = exp_exponent(x);
  vec half_power = v_pow2(v_sub(n, v_set(1)));
  vec half =
      v_fma(half_power, expm1_remainder(exp_remainder(x, n)), v_sub(half_power, v_set((real)0.5)));
  return v_add(half, half);
}

/* tanh|x| = e / (e + 2), e = expm1(2 |x|), and 1 from |x| = 20 on: 2.58 / 2.41 ULP. */
DS_INLINE vec v_tanh(vec x) {
  vec magnitude = v_abs(x);
  vec twice = v_min(v_set(40), v_add(magnitude, magnitude));
  vec n = exp_exponent(twice);
  vec power = v_pow2(n);
  vec e = v_fma(power, expm1_remainder(exp_remainder(twice, n)), v_sub(power, v_set(1)));
  return v_copysign(v_div(e, v_add(e, v_set(2))), x);
}

/* 1 / (1 + exp(-x)) as 1 / (1 + e) or e / (1 + e), e = exp(-|x|): 2.41 / 1.92 ULP. */
DS_INLINE vec v_sigmoid(vec x) {
  vec e = exp_bounded(v_neg(v_abs(x)));
  vec one = v_set(1);
  return v_div(v_select(v_less(x, v_zero()), e, one), v_add(one, e));
}

/* sigmoid(x) and its derivative s (1 - s) = e / (1 + e)^2, where 1 - s would lose its digits. */
DS_INLINE vec v_sigmoid_slope(vec x, vec *slope) {
  vec one = v_set(1), e = exp_bounded(v_neg(v_abs(x)));
  vec upper = v_div(one, v_add(one, e)), lower = v_mul(e, upper);
  *slope = v_mul(lower, upper);
  return v_select(v_less(x, v_zero()), lower, upper);
}

/* ---- log: x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2) ---- */

/* k ln 2 + log(1 + f).  With s = f / (2 + f), log(1 + f) = 2 s + s R, R = s^2 LOG(s^2); since
 * 2 s = f - f^2 / 2 + s f^2 / 2, the exact f can carry the sum. */
DS_INLINE vec log_parts(vec k, vec f) {
  vec s = v_div(f, v_add(v_set(2), f));
  vec square = v_mul(s, s);
  vec half = v_mul(v_mul(v_set((real)0.5), f), f);
  vec product = v_fma(square, POLYNOMIAL(square, LOG), half);
  vec low = v_fma(s, product, v_mul(k, v_set(LN2_LOW)));
  return v_fma(k, v_set(LN2_HIGH), v_sub(f, v_sub(half, low)));
}

/* The k of a positive normal x. */
DS_INLINE vec log_exponent(vec x) {
  vec above = v_select(v_less(v_set(SQRT_2), v_mantissa(x)), v_set(1), v_zero());
  return v_add(v_exponent(x), above);
}

/* `logarithm` of x where 0 < x < inf, and what the logarithm is elsewhere. */
DS_INLINE vec log_limits(vec x, vec logarithm) {
  vec infinity = v_set((real)INFINITY);
  vec outside = v_select(v_equal(x, v_zero()), v_neg(infinity), v_set((real)NAN));
  vec result = v_select(v_less(x, infinity), logarithm, x);
  return v_select(v_less_equal(x, v_zero()), outside, result);
}

/* log(x): 0.83 / 0.75 ULP.  Numbers below the normal range are scaled up first. */
DS_INLINE vec v_log(vec x) {
  mask tiny = v_less(x, v_set(BY_TYPE(0x1p-126, 0x1p-1022)));
  vec normal = v_select(tiny, v_mul(x, v_set((real)0x1p64)), x);
  vec k = log_exponent(normal);
  vec f = v_sub(v_scale(normal, v_neg(k)), v_set(1));
  return log_limits(x, log_parts(v_sub(k, v_select(tiny, v_set(64), v_zero())), f));
}

/* log(1 + x) for all x: 1.40 / 0.76 ULP.  f = 2^-k x + (2^-k - 1) does not inherit the rounding of
 * 1 + x. */
DS_INLINE vec v_log1p(vec x) {
  vec one = v_set(1);
  vec sum = v_add(one, x);
  vec k = log_exponent(sum);
  vec f = v_add(v_scale(x, v_neg(k)), v_sub(v_scale(one, v_neg(k)), one));
  return log_limits(sum, log_parts(k, f));
}

/* log(1 + exp(x)) = max(x, 0) + log(1 + e), e = exp(-|x|), with a k of 0 or 1: 1.70 / 1.56 ULP. */
DS_INLINE vec v_softplus(vec x) {
  vec one = v_set(1);
  vec e = exp_bounded(v_neg(v_abs(x)));
  mask above = v_less(v_set(SQRT_2), v_add(one, e));
  vec f = v_select(above, v_mul(v_sub(e, one), v_set((real)0.5)), e);
  return v_add(v_max(v_zero(), x), log_parts(v_select(above, one, v_zero()), f));
}

/* ---- erfc and the normal distribution ---- */

/* Returns p and sets n so that exp(-a b) = 2^n (1 + p); the rounding error of a b is made good. */
DS_INLINE vec exp_minus_product(vec a, vec b, vec *n) {
  vec minus_product = v_neg(v_mul(a, b));
  vec rest = v_fma(a, b, minus_product);
  *n = exp_exponent(minus_product);
  vec low = v_fma(*n, v_set(LN2_LOW), rest);
  return expm1_remainder(v_sub(v_fnma(*n, v_set(LN2_HIGH), minus_product), low));
}

/* exp(t^2) erfc(t), 0 <= t <= ERFC_LARGEST.  The two lowest orders are added last, one by one: the
 * even and the odd powers cancel where q is near 1. */
DS_INLINE vec scaled_erfc(vec t) {
  vec u = v_div(v_set(2), v_add(t, v_set(ERFC_HALFWAY)));
  vec q = v_fma(t, u, v_set(-ERFC_ORIGIN));
  vec sum = polynomial(q, ERFC + 2, TERMS(ERFC) - 2);
  sum = v_fma(q, sum, v_set(ERFC[1]));
  sum = v_fma(q, sum, v_set(ERFC[0]));
  return v_mul(u, sum);
}

/* erfc(x): 3.93 / 3.02 ULP. */
DS_INLINE vec v_erfc(vec x) {
  vec n, t = v_min(v_set(ERFC_LARGEST), v_abs(x));
  vec p = exp_minus_product(t, t, &n), scaled = scaled_erfc(t);
  vec tail = v_scale(v_fma(p, scaled, scaled), n);
  return v_select(v_less(x, v_zero()), v_sub(v_set(2), tail), tail);
}

/* Phi(x) = erfc(-x / sqrt(2)) / 2, the probability of a standard normal variable below x, and its
 * derivative, the density phi(x) = exp(-x^2 / 2) / sqrt(2 pi). */
DS_INLINE vec v_normal_cdf(vec x, vec *density) {
  vec n, t = v_min(v_set(ERFC_LARGEST * SQRT_2), v_abs(x));
  vec p = exp_minus_product(v_mul(v_set((real)0.5), t), t, &n);
  vec peak = v_set(INVERSE_SQRT_2_PI);
  *density = v_scale(v_fma(p, peak, peak), n);
  vec half = v_mul(v_set((real)0.5), scaled_erfc(v_mul(t, v_set(SQRT_1_2))));
  vec tail = v_scale(v_fma(p, half, half), n);
  return v_select(v_less(x, v_zero()), tail, v_sub(v_set(1), tail));
}

#endif
