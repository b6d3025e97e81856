/* immintrin.h: AVX-512 for a compiler and a CPU that have AVX2 and FMA, for compare.sh.
 * It is SIMDe, and lane by lane after Intel's manual what SIMDe 0.7 lacks or gets wrong for
 * subnormal numbers. */
#ifdef DS_EMULATED_IMMINTRIN
#include_next <immintrin.h>
#else
#define DS_EMULATED_IMMINTRIN
#include <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>
#include <math.h>

#define SHIM(letter, real, vec, lanes, ldexp, logb, floor)                      \
  static inline vec shim_lanes_p##letter(vec a, vec b, int what) {              \
    real x[lanes], n[lanes];                                                    \
    simde_mm512_storeu_p##letter(x, a);                                         \
    simde_mm512_storeu_p##letter(n, b);                                         \
    for (int l = 0; l < lanes; l++)                                             \
      x[l] = what == 0   ? (isnan(n[l]) ? n[l] : ldexp(x[l], (int)floor(n[l]))) \
             : what == 1 ? logb(x[l])                                           \
                         : ldexp(x[l], -(int)logb(x[l]));                       \
    return simde_mm512_loadu_p##letter(x);                                      \
  }                                                                             \
  static inline vec shim_load_p##letter(unsigned k, const real *p) {            \
    real x[lanes];                                                              \
    for (int l = 0; l < lanes; l++) x[l] = k >> l & 1 ? p[l] : 0;               \
    return simde_mm512_loadu_p##letter(x);                                      \
  }                                                                             \
  static inline void shim_store_p##letter(real *p, unsigned k, vec v) {         \
    real x[lanes];                                                              \
    simde_mm512_storeu_p##letter(x, v);                                         \
    for (int l = 0; l < lanes; l++)                                             \
      if (k >> l & 1) p[l] = x[l];                                              \
  }                                                                             \
  static inline vec shim_blend_p##letter(unsigned k, vec a, vec b) {            \
    real x[lanes], y[lanes];                                                    \
    simde_mm512_storeu_p##letter(x, a);                                         \
    simde_mm512_storeu_p##letter(y, b);                                         \
    for (int l = 0; l < lanes; l++)                                             \
      if (k >> l & 1) x[l] = y[l];                                              \
    return simde_mm512_loadu_p##letter(x);                                      \
  }                                                                             \
  static inline vec shim_quarters_p##letter(vec a, vec b, unsigned choice) {    \
    real x[lanes], y[lanes], r[lanes];                                          \
    const int q = lanes / 4;                                                    \
    simde_mm512_storeu_p##letter(x, a);                                         \
    simde_mm512_storeu_p##letter(y, b);                                         \
    for (int l = 0; l < lanes; l++)                                             \
      r[l] = (l < 2 * q ? x : y)[(choice >> (2 * (l / q)) & 3) * q + l % q];    \
    return simde_mm512_loadu_p##letter(r);                                      \
  }
SHIM(s, float, __m512, 16, ldexpf, logbf, floorf)
SHIM(d, double, __m512d, 8, ldexp, logb, floor)

#undef _mm512_scalef_ps
#undef _mm512_scalef_pd
#undef _mm512_mask_blend_ps
#undef _mm512_mask_blend_pd
#undef _mm512_mask_storeu_ps
#undef _mm512_mask_storeu_pd
#undef _mm512_shuffle_f32x4
#undef _mm512_shuffle_f64x2
#undef _mm512_getmant_ps
#undef _mm512_getmant_pd
#define _mm512_scalef_ps(a, b) shim_lanes_ps(a, b, 0)
#define _mm512_scalef_pd(a, b) shim_lanes_pd(a, b, 0)
#define _mm512_getexp_ps(a) shim_lanes_ps(a, a, 1)
#define _mm512_getexp_pd(a) shim_lanes_pd(a, a, 1)
#define _mm512_getmant_ps(a, i, s) shim_lanes_ps(a, a, 2)
#define _mm512_getmant_pd(a, i, s) shim_lanes_pd(a, a, 2)
#define _mm512_maskz_loadu_ps(k, p) shim_load_ps(k, p)
#define _mm512_maskz_loadu_pd(k, p) shim_load_pd(k, p)
#define _mm512_mask_storeu_ps(p, k, v) shim_store_ps(p, k, v)
#define _mm512_mask_storeu_pd(p, k, v) shim_store_pd(p, k, v)
#define _mm512_mask_blend_ps(k, a, b) shim_blend_ps(k, a, b)
#define _mm512_mask_blend_pd(k, a, b) shim_blend_pd(k, a, b)
#define _mm512_shuffle_f32x4(a, b, c) shim_quarters_ps(a, b, c)
#define _mm512_shuffle_f64x2(a, b, c) shim_quarters_pd(a, b, c)
#endif
