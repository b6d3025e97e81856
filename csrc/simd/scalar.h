/* scalar.h: the operations of simd.h in plain C, one element a vector: the reference for all.
 *
 * fma() is one instruction where the compiler may use it, else a call into the C library, which
 * is slow on a CPU without the instruction, and right. */
#ifndef DS_SIMD_SCALAR_H
#define DS_SIMD_SCALAR_H

#include <math.h>
#include <string.h>

enum { VEC = 1 };
typedef real vec;
typedef int mask;

#if DS_FLOAT_BITS == 32
typedef uint32_t vec_bits;
#define DS_LIBM(function) function##f
#else
typedef uint64_t vec_bits;
#define DS_LIBM(function) function
#endif

DS_INLINE vec_bits v_to_bits(vec x) {
  vec_bits bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

DS_INLINE vec v_from_bits(vec_bits bits) {
  vec x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

DS_INLINE vec v_load(const real *p) { return *p; }
DS_INLINE void v_store(real *p, vec v) { *p = v; }
DS_INLINE vec v_load_first(const real *p, ptrdiff_t n) { return n < 1 ? 0 : *p; }
DS_INLINE void v_store_first(real *p, vec v, ptrdiff_t n) {
  if (n >= 1) *p = v;
}
DS_INLINE vec v_set(real s) { return s; }
DS_INLINE vec v_zero(void) { return 0; }

DS_INLINE vec v_add(vec a, vec b) { return a + b; }
DS_INLINE vec v_sub(vec a, vec b) { return a - b; }
DS_INLINE vec v_mul(vec a, vec b) { return a * b; }
DS_INLINE vec v_div(vec a, vec b) { return a / b; }
DS_INLINE vec v_sqrt(vec a) { return DS_LIBM(sqrt)(a); }
DS_INLINE vec v_fma(vec a, vec b, vec c) { return DS_LIBM(fma)(a, b, c); }
DS_INLINE vec v_fnma(vec a, vec b, vec c) { return DS_LIBM(fma)(-a, b, c); }
DS_INLINE vec v_min(vec a, vec b) { return a < b ? a : b; }
DS_INLINE vec v_max(vec a, vec b) { return a > b ? a : b; }
DS_INLINE vec v_neg(vec a) { return -a; }
DS_INLINE vec v_abs(vec a) { return DS_LIBM(fabs)(a); }
DS_INLINE vec v_copysign(vec magnitude, vec sign) { return DS_LIBM(copysign)(magnitude, sign); }
DS_INLINE vec v_round(vec a) { return DS_LIBM(rint)(a); }

DS_INLINE mask v_less(vec a, vec b) { return a < b; }
DS_INLINE mask v_less_equal(vec a, vec b) { return a <= b; }
DS_INLINE mask v_equal(vec a, vec b) { return a == b; }
DS_INLINE mask m_and(mask a, mask b) { return a & b; }
DS_INLINE mask m_or(mask a, mask b) { return a | b; }
DS_INLINE int m_any(mask a) { return a; }
DS_INLINE int m_all(mask a) { return a; }
DS_INLINE mask m_first(ptrdiff_t n) { return n >= 1; }
DS_INLINE vec v_select(mask m, vec a, vec b) { return m ? a : b; }
DS_INLINE vec v_zero_where(mask m, vec a) { return v_select(m, v_zero(), a); }

DS_INLINE vec v_pow2(vec n) {
  return v_from_bits(v_to_bits(n + (DS_ROUNDER + DS_EXPONENT_BIAS)) << DS_MANTISSA_BITS);
}

DS_INLINE vec v_scale(vec x, vec n) {
  vec_bits both = v_to_bits(n + (DS_ROUNDER + 2 * DS_EXPONENT_BIAS));
  vec_bits half = both >> 1;
  return x * v_from_bits(half << DS_MANTISSA_BITS) * v_from_bits((both - half) << DS_MANTISSA_BITS);
}

DS_INLINE vec v_exponent(vec x) {
  return (vec)((int)(v_to_bits(x) >> DS_MANTISSA_BITS) - DS_EXPONENT_BIAS);
}

DS_INLINE vec v_mantissa(vec x) {
  vec_bits fraction = v_to_bits(x) & (((vec_bits)1 << DS_MANTISSA_BITS) - 1);
  return v_from_bits(fraction | ((vec_bits)DS_EXPONENT_BIAS << DS_MANTISSA_BITS));
}

DS_INLINE void v_transpose(const real *source, ptrdiff_t source_stride, real *target,
                           ptrdiff_t target_stride) {
  (void)source_stride;
  (void)target_stride;
  *target = *source;
}

#endif
