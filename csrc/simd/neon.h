/* neon.h: the operations of simd.h in the NEON of AArch64, 4 floats or 2 doubles a vector. */
#ifndef DS_SIMD_NEON_H
#define DS_SIMD_NEON_H

#include <arm_neon.h>
#include <math.h>

/* DS_Q(vadd) is vaddq_f32 or vaddq_f64; DS_U(vorr) is vorrq_u32 or vorrq_u64; a mask has all bits
 * of a true lane set. */
#if DS_FLOAT_BITS == 32
enum { VEC = 4 };
typedef float32x4_t vec;
typedef uint32x4_t mask;
typedef uint32_t lane_bits;
#define DS_Q(operation) operation##q_f32
#define DS_Q_N(operation) operation##q_n_f32
#define DS_U(operation) operation##q_u32
#define DS_U_N(operation) operation##q_n_u32
#define DS_TO_BITS vreinterpretq_u32_f32
#define DS_FROM_BITS vreinterpretq_f32_u32
#else
enum { VEC = 2 };
typedef float64x2_t vec;
typedef uint64x2_t mask;
typedef uint64_t lane_bits;
#define DS_Q(operation) operation##q_f64
#define DS_Q_N(operation) operation##q_n_f64
#define DS_U(operation) operation##q_u64
#define DS_U_N(operation) operation##q_n_u64
#define DS_TO_BITS vreinterpretq_u64_f64
#define DS_FROM_BITS vreinterpretq_f64_u64
#endif

DS_INLINE vec v_set(real s) { return DS_Q_N(vdup)(s); }
DS_INLINE vec v_zero(void) { return v_set(0); }

DS_INLINE vec v_add(vec a, vec b) { return DS_Q(vadd)(a, b); }
DS_INLINE vec v_sub(vec a, vec b) { return DS_Q(vsub)(a, b); }
DS_INLINE vec v_mul(vec a, vec b) { return DS_Q(vmul)(a, b); }
DS_INLINE vec v_div(vec a, vec b) { return DS_Q(vdiv)(a, b); }
DS_INLINE vec v_sqrt(vec a) { return DS_Q(vsqrt)(a); }
DS_INLINE vec v_fma(vec a, vec b, vec c) { return DS_Q(vfma)(c, a, b); }
DS_INLINE vec v_fnma(vec a, vec b, vec c) { return DS_Q(vfms)(c, a, b); }
DS_INLINE vec v_neg(vec a) { return DS_Q(vneg)(a); }
DS_INLINE vec v_abs(vec a) { return DS_Q(vabs)(a); }
DS_INLINE vec v_round(vec a) { return DS_Q(vrndn)(a); }

DS_INLINE mask v_less(vec a, vec b) { return DS_Q(vclt)(a, b); }
DS_INLINE mask v_less_equal(vec a, vec b) { return DS_Q(vcle)(a, b); }
DS_INLINE mask v_equal(vec a, vec b) { return DS_Q(vceq)(a, b); }
DS_INLINE mask m_and(mask a, mask b) { return DS_U(vand)(a, b); }
DS_INLINE mask m_or(mask a, mask b) { return DS_U(vorr)(a, b); }
DS_INLINE int m_any(mask a) { return vmaxvq_u32((uint32x4_t)a) != 0; }
DS_INLINE int m_all(mask a) { return vminvq_u32((uint32x4_t)a) != 0; }
DS_INLINE mask m_first(ptrdiff_t n) {
  static const lane_bits lane[4] = {0, 1, 2, 3};
  return DS_U(vclt)(DS_U(vld1)(lane), DS_U_N(vdup)((lane_bits)n));
}
DS_INLINE vec v_select(mask m, vec a, vec b) { return DS_Q(vbsl)(m, a, b); }
DS_INLINE vec v_zero_where(mask m, vec a) { return v_select(m, v_zero(), a); }

/* Not vminq and vmaxq: their result for a NaN and for zeros of two signs is another one. */
DS_INLINE vec v_min(vec a, vec b) { return v_select(v_less(a, b), a, b); }
DS_INLINE vec v_max(vec a, vec b) { return v_select(v_less(b, a), a, b); }
DS_INLINE vec v_copysign(vec magnitude, vec sign) {
  return v_select(DS_TO_BITS(v_set((real)-0.0)), sign, magnitude);
}

DS_INLINE vec v_load(const real *p) { return DS_Q(vld1)(p); }
DS_INLINE void v_store(real *p, vec v) { DS_Q(vst1)(p, v); }
DS_INLINE vec v_load_first(const real *p, ptrdiff_t n) {
  vec v = v_zero();
#if DS_FLOAT_BITS == 32
  if (n >= 2) v = vcombine_f32(vld1_f32(p), vget_high_f32(v));
  if (n == 1) v = vld1q_lane_f32(p, v, 0);
  if (n == 3) v = vld1q_lane_f32(p + 2, v, 2);
#else
  if (n == 1) v = vld1q_lane_f64(p, v, 0);
#endif
  return v;
}
DS_INLINE void v_store_first(real *p, vec v, ptrdiff_t n) {
#if DS_FLOAT_BITS == 32
  if (n >= 2) vst1_f32(p, vget_low_f32(v));
  if (n == 1) vst1q_lane_f32(p, v, 0);
  if (n == 3) vst1q_lane_f32(p + 2, v, 2);
#else
  if (n == 1) vst1q_lane_f64(p, v, 0);
#endif
}

DS_INLINE vec v_pow2(vec n) {
  mask bits = DS_TO_BITS(v_add(n, v_set(DS_ROUNDER + DS_EXPONENT_BIAS)));
  return DS_FROM_BITS(DS_U_N(vshl)(bits, DS_MANTISSA_BITS));
}

DS_INLINE vec v_scale(vec x, vec n) {
  mask both = DS_TO_BITS(v_add(n, v_set(DS_ROUNDER + 2 * DS_EXPONENT_BIAS)));
  mask half = DS_U_N(vshr)(both, 1);
  mask rest = DS_U(vsub)(both, half);
  x = v_mul(x, DS_FROM_BITS(DS_U_N(vshl)(half, DS_MANTISSA_BITS)));
  return v_mul(x, DS_FROM_BITS(DS_U_N(vshl)(rest, DS_MANTISSA_BITS)));
}

DS_INLINE vec v_exponent(vec x) {
  mask biased = DS_U_N(vshr)(DS_TO_BITS(x), DS_MANTISSA_BITS);
#if DS_FLOAT_BITS == 32
  vec exponent = vcvtq_f32_u32(biased);
#else
  vec exponent = vcvtq_f64_u64(biased);
#endif
  return v_sub(exponent, v_set(DS_EXPONENT_BIAS));
}

DS_INLINE vec v_mantissa(vec x) {
  mask exponent_bits = DS_TO_BITS(v_set((real)INFINITY));
  return v_select(exponent_bits, v_set(1), x);
}

DS_INLINE void v_transpose(const real *source, ptrdiff_t source_stride, real *target,
                           ptrdiff_t target_stride) {
#if DS_FLOAT_BITS == 32
  vec row[4];
  for (int i = 0; i < 4; i++) row[i] = v_load(source + i * source_stride);
  float32x4x2_t even = vtrnq_f32(row[0], row[1]), odd = vtrnq_f32(row[2], row[3]);
  for (int j = 0; j < 2; j++) {
    vec low = vcombine_f32(vget_low_f32(even.val[j]), vget_low_f32(odd.val[j]));
    vec high = vcombine_f32(vget_high_f32(even.val[j]), vget_high_f32(odd.val[j]));
    v_store(target + j * target_stride, low);
    v_store(target + (j + 2) * target_stride, high);
  }
#else
  vec row_0 = v_load(source), row_1 = v_load(source + source_stride);
  v_store(target, vtrn1q_f64(row_0, row_1));
  v_store(target + target_stride, vtrn2q_f64(row_0, row_1));
#endif
}

#undef DS_Q
#undef DS_Q_N
#undef DS_U
#undef DS_U_N
#undef DS_TO_BITS
#undef DS_FROM_BITS

#endif
