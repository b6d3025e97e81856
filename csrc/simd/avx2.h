/* avx2.h: the operations of simd.h in AVX2 and FMA, 8 floats or 4 doubles a vector. */
#ifndef DS_SIMD_AVX2_H
#define DS_SIMD_AVX2_H

#include <immintrin.h>
#include <math.h>

/* DS_MM(add) is _mm256_add_ps or _mm256_add_pd; DS_EPI(sub) is _mm256_sub_epi32 or _epi64; a mask
 * is a vec with all bits of a true lane set. */
#if DS_FLOAT_BITS == 32
enum { VEC = 8 };
typedef __m256 vec;
#define DS_MM(operation) _mm256_##operation##_ps
#define DS_EPI(operation) _mm256_##operation##_epi32
#define DS_TO_BITS _mm256_castps_si256
#define DS_FROM_BITS _mm256_castsi256_ps
#else
enum { VEC = 4 };
typedef __m256d vec;
#define DS_MM(operation) _mm256_##operation##_pd
#define DS_EPI(operation) _mm256_##operation##_epi64
#define DS_TO_BITS _mm256_castpd_si256
#define DS_FROM_BITS _mm256_castsi256_pd
#endif
typedef vec mask;

DS_INLINE vec v_set(real s) { return DS_MM(set1)(s); }
DS_INLINE vec v_zero(void) { return DS_MM(setzero)(); }

DS_INLINE vec v_add(vec a, vec b) { return DS_MM(add)(a, b); }
DS_INLINE vec v_sub(vec a, vec b) { return DS_MM(sub)(a, b); }
DS_INLINE vec v_mul(vec a, vec b) { return DS_MM(mul)(a, b); }
DS_INLINE vec v_div(vec a, vec b) { return DS_MM(div)(a, b); }
DS_INLINE vec v_sqrt(vec a) { return DS_MM(sqrt)(a); }
DS_INLINE vec v_fma(vec a, vec b, vec c) { return DS_MM(fmadd)(a, b, c); }
DS_INLINE vec v_fnma(vec a, vec b, vec c) { return DS_MM(fnmadd)(a, b, c); }
DS_INLINE vec v_min(vec a, vec b) { return DS_MM(min)(a, b); }
DS_INLINE vec v_max(vec a, vec b) { return DS_MM(max)(a, b); }
DS_INLINE vec v_neg(vec a) { return DS_MM(xor)(a, v_set((real)-0.0)); }
DS_INLINE vec v_abs(vec a) { return DS_MM(andnot)(v_set((real)-0.0), a); }
DS_INLINE vec v_copysign(vec magnitude, vec sign) {
  vec sign_bit = v_set((real)-0.0);
  return DS_MM(or)(DS_MM(andnot)(sign_bit, magnitude), DS_MM(and)(sign_bit, sign));
}
DS_INLINE vec v_round(vec a) {
  return DS_MM(round)(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

DS_INLINE mask v_less(vec a, vec b) { return DS_MM(cmp)(a, b, _CMP_LT_OQ); }
DS_INLINE mask v_less_equal(vec a, vec b) { return DS_MM(cmp)(a, b, _CMP_LE_OQ); }
DS_INLINE mask v_equal(vec a, vec b) { return DS_MM(cmp)(a, b, _CMP_EQ_OQ); }
DS_INLINE mask m_and(mask a, mask b) { return DS_MM(and)(a, b); }
DS_INLINE mask m_or(mask a, mask b) { return DS_MM(or)(a, b); }
DS_INLINE int m_any(mask a) { return DS_MM(movemask)(a) != 0; }
DS_INLINE int m_all(mask a) { return DS_MM(movemask)(a) == (1 << VEC) - 1; }
DS_INLINE mask m_first(ptrdiff_t n) {
#if DS_FLOAT_BITS == 32
  __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return DS_FROM_BITS(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane));
#else
  __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
  return DS_FROM_BITS(_mm256_cmpgt_epi64(_mm256_set1_epi64x(n), lane));
#endif
}
DS_INLINE vec v_select(mask m, vec a, vec b) { return DS_MM(blendv)(b, a, m); }
DS_INLINE vec v_zero_where(mask m, vec a) { return DS_MM(andnot)(m, a); }

DS_INLINE vec v_load(const real *p) { return DS_MM(loadu)(p); }
DS_INLINE void v_store(real *p, vec v) { DS_MM(storeu)(p, v); }
DS_INLINE vec v_load_first(const real *p, ptrdiff_t n) {
  return DS_MM(maskload)(p, DS_TO_BITS(m_first(n)));
}

/* By halves: masked stores are microcoded on AMD's cores before Zen 4. */
DS_INLINE void v_store_first(real *p, vec v, ptrdiff_t n) {
#if DS_FLOAT_BITS == 32
  __m128 part = _mm256_castps256_ps128(v);
  if (n & 4) {
    _mm_storeu_ps(p, part);
    part = _mm256_extractf128_ps(v, 1);
    p += 4;
  }
  if (n & 2) {
    _mm_storel_pi((__m64 *)p, part);
    part = _mm_movehl_ps(part, part);
    p += 2;
  }
  if (n & 1) _mm_store_ss(p, part);
#else
  __m128d part = _mm256_castpd256_pd128(v);
  if (n & 2) {
    _mm_storeu_pd(p, part);
    part = _mm256_extractf128_pd(v, 1);
    p += 2;
  }
  if (n & 1) _mm_store_sd(p, part);
#endif
}

DS_INLINE vec v_pow2(vec n) {
  __m256i bits = DS_TO_BITS(v_add(n, v_set(DS_ROUNDER + DS_EXPONENT_BIAS)));
  return DS_FROM_BITS(DS_EPI(slli)(bits, DS_MANTISSA_BITS));
}

DS_INLINE vec v_scale(vec x, vec n) {
  __m256i both = DS_TO_BITS(v_add(n, v_set(DS_ROUNDER + 2 * DS_EXPONENT_BIAS)));
  __m256i half = DS_EPI(srli)(both, 1);
  __m256i rest = DS_EPI(sub)(both, half);
  x = v_mul(x, DS_FROM_BITS(DS_EPI(slli)(half, DS_MANTISSA_BITS)));
  return v_mul(x, DS_FROM_BITS(DS_EPI(slli)(rest, DS_MANTISSA_BITS)));
}

/* The exponent's bits become the lowest bits of 2^23 (2^52), which is then taken off again. */
DS_INLINE vec v_exponent(vec x) {
  const real one_per_ulp = (real)((int64_t)1 << DS_MANTISSA_BITS);
  vec shifted = DS_FROM_BITS(DS_EPI(srli)(DS_TO_BITS(x), DS_MANTISSA_BITS));
  return v_sub(DS_MM(or)(shifted, v_set(one_per_ulp)), v_set(one_per_ulp + DS_EXPONENT_BIAS));
}

DS_INLINE vec v_mantissa(vec x) {
  vec exponent_bits = v_set((real)INFINITY);
  return DS_MM(or)(DS_MM(andnot)(exponent_bits, x), v_set(1));
}

DS_INLINE void v_transpose(const real *source, ptrdiff_t source_stride, real *target,
                           ptrdiff_t target_stride) {
#if DS_FLOAT_BITS == 32
  __m256 row[8], pair[8], quad[8];
  for (int i = 0; i < 8; i++) row[i] = v_load(source + i * source_stride);
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xEE);
    quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; i++) {
    v_store(target + i * target_stride, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20));
    v_store(target + (i + 4) * target_stride, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31));
  }
#else
  __m256d row[4], pair[4];
  for (int i = 0; i < 4; i++) row[i] = v_load(source + i * source_stride);
  for (int i = 0; i < 4; i += 2) {
    pair[i] = _mm256_unpacklo_pd(row[i], row[i + 1]);
    pair[i + 1] = _mm256_unpackhi_pd(row[i], row[i + 1]);
  }
  for (int i = 0; i < 2; i++) {
    v_store(target + i * target_stride, _mm256_permute2f128_pd(pair[i], pair[i + 2], 0x20));
    v_store(target + (i + 2) * target_stride, _mm256_permute2f128_pd(pair[i], pair[i + 2], 0x31));
  }
#endif
}

#undef DS_MM
#undef DS_EPI
#undef DS_TO_BITS
#undef DS_FROM_BITS

#endif
