/* avx512.h: the operations of simd.h in AVX-512 (F, DQ, BW, VL), 16 floats or 8 doubles. */
#ifndef DS_SIMD_AVX512_H
#define DS_SIMD_AVX512_H

#include <immintrin.h>

/* DS_MM(add) is _mm512_add_ps or _mm512_add_pd; a mask is one bit per lane. */
#if DS_FLOAT_BITS == 32
enum { VEC = 16 };
typedef __m512 vec;
typedef __mmask16 mask;
#define DS_MM(operation) _mm512_##operation##_ps
#define DS_MM_MASK(operation) _mm512_##operation##_ps_mask
#else
enum { VEC = 8 };
typedef __m512d vec;
typedef __mmask8 mask;
#define DS_MM(operation) _mm512_##operation##_pd
#define DS_MM_MASK(operation) _mm512_##operation##_pd_mask
#endif

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
  return DS_MM(roundscale)(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

DS_INLINE mask v_less(vec a, vec b) { return DS_MM_MASK(cmp)(a, b, _CMP_LT_OQ); }
DS_INLINE mask v_less_equal(vec a, vec b) { return DS_MM_MASK(cmp)(a, b, _CMP_LE_OQ); }
DS_INLINE mask v_equal(vec a, vec b) { return DS_MM_MASK(cmp)(a, b, _CMP_EQ_OQ); }
DS_INLINE mask m_and(mask a, mask b) { return (mask)(a & b); }
DS_INLINE mask m_or(mask a, mask b) { return (mask)(a | b); }
DS_INLINE int m_any(mask a) { return a != 0; }
DS_INLINE int m_all(mask a) { return a == (mask)((1u << VEC) - 1u); }
DS_INLINE mask m_first(ptrdiff_t n) { return (mask)((1u << n) - 1u); }
DS_INLINE vec v_select(mask m, vec a, vec b) { return DS_MM(mask_blend)(m, b, a); }
DS_INLINE vec v_zero_where(mask m, vec a) { return v_select(m, v_zero(), a); }

DS_INLINE vec v_load(const real *p) { return DS_MM(loadu)(p); }
DS_INLINE void v_store(real *p, vec v) { DS_MM(storeu)(p, v); }
DS_INLINE vec v_load_first(const real *p, ptrdiff_t n) { return DS_MM(maskz_loadu)(m_first(n), p); }
DS_INLINE void v_store_first(real *p, vec v, ptrdiff_t n) { DS_MM(mask_storeu)(p, m_first(n), v); }

DS_INLINE vec v_pow2(vec n) { return DS_MM(scalef)(v_set(1), n); }
DS_INLINE vec v_scale(vec x, vec n) { return DS_MM(scalef)(x, n); }
DS_INLINE vec v_exponent(vec x) { return DS_MM(getexp)(x); }
DS_INLINE vec v_mantissa(vec x) { return DS_MM(getmant)(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src); }

DS_INLINE void v_transpose(const real *source, ptrdiff_t source_stride, real *target,
                           ptrdiff_t target_stride) {
#if DS_FLOAT_BITS == 32
  __m512 row[16], pair[16], quad[16], half[16];
  for (int i = 0; i < 16; i++) row[i] = v_load(source + i * source_stride);
  for (int i = 0; i < 16; i += 2) {
    pair[i] = _mm512_unpacklo_ps(row[i], row[i + 1]);
    pair[i + 1] = _mm512_unpackhi_ps(row[i], row[i + 1]);
  }
  /* quad[i + c] holds in its quarter q the column 4 q + c of the rows i .. i + 3. */
  for (int i = 0; i < 16; i += 4) {
    quad[i] = _mm512_shuffle_ps(pair[i], pair[i + 2], 0x44);
    quad[i + 1] = _mm512_shuffle_ps(pair[i], pair[i + 2], 0xEE);
    quad[i + 2] = _mm512_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    quad[i + 3] = _mm512_shuffle_ps(pair[i + 1], pair[i + 3], 0xEE);
  }
  /* half[i + c]: quarters 0 and 2, half[i + 4 + c]: quarters 1 and 3, of the rows i .. i + 7. */
  for (int i = 0; i < 16; i += 8)
    for (int c = 0; c < 4; c++) {
      half[i + c] = _mm512_shuffle_f32x4(quad[i + c], quad[i + 4 + c], 0x88);
      half[i + 4 + c] = _mm512_shuffle_f32x4(quad[i + c], quad[i + 4 + c], 0xDD);
    }
  for (int i = 0; i < 8; i++) {
    v_store(target + i * target_stride, _mm512_shuffle_f32x4(half[i], half[i + 8], 0x88));
    v_store(target + (i + 8) * target_stride, _mm512_shuffle_f32x4(half[i], half[i + 8], 0xDD));
  }
#else
  __m512d row[8], pair[8], half[8];
  for (int i = 0; i < 8; i++) row[i] = v_load(source + i * source_stride);
  /* pair[i + c] holds in its quarter q the column 2 q + c of the rows i, i + 1. */
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm512_unpacklo_pd(row[i], row[i + 1]);
    pair[i + 1] = _mm512_unpackhi_pd(row[i], row[i + 1]);
  }
  for (int i = 0; i < 8; i += 4)
    for (int c = 0; c < 2; c++) {
      half[i + c] = _mm512_shuffle_f64x2(pair[i + c], pair[i + 2 + c], 0x88);
      half[i + 2 + c] = _mm512_shuffle_f64x2(pair[i + c], pair[i + 2 + c], 0xDD);
    }
  for (int i = 0; i < 4; i++) {
    v_store(target + i * target_stride, _mm512_shuffle_f64x2(half[i], half[i + 4], 0x88));
    v_store(target + (i + 4) * target_stride, _mm512_shuffle_f64x2(half[i], half[i + 4], 0xDD));
  }
#endif
}

#undef DS_MM
#undef DS_MM_MASK

#endif
