/* simd.h: one vector of `real`, whatever the machine.
 *
 * A kernel file is written once over these operations and compiled once per instruction set
 * (-DDS_TARGET_scalar, _neon, _avx2 or _avx512) and float type (-DDS_FLOAT_BITS=32 or 64).  Only
 * the four headers chosen here, and words.h, know an instruction set.
 *
 * Numeric contract.  Every operation gives, lane by lane, the same bits on every instruction set (a
 * NaN stays a NaN, with any payload), so that a kernel that puts no two lanes together by itself
 * gives the same bits everywhere too.  No operation approximates; v_fma and v_fnma round once.
 *
 * The operations, the same in every header (`vec`: VEC elements, `mask`: VEC truth values):
 *
 *   v_load(p), v_store(p, v)          VEC elements, no alignment asked for
 *   v_load_first(p, n)                the first n lanes, zero in the others, 0 <= n < VEC; touches
 *   v_store_first(p, v, n)            no other memory
 *   v_set(s), v_zero()
 *   v_add v_sub v_mul v_div v_sqrt    exact IEEE
 *   v_fma(a, b, c), v_fnma(a, b, c)   a * b + c, c - a * b
 *   v_min(a, b), v_max(a, b)          a < b ? a : b, a > b ? a : b: b where one of them is NaN
 *   v_neg v_abs v_copysign(magnitude, sign)
 *   v_round(x)                        to nearest, ties to even; keeps the sign of zero
 *   v_less v_less_equal v_equal       -> mask; false where an operand is NaN
 *   m_and m_or m_any m_all            m_any, m_all -> int
 *   m_first(n)                        the first n lanes, 0 <= n <= VEC
 *   v_select(m, a, b)                 m ? a : b
 *   v_zero_where(m, a)                m ? 0 : a
 *   v_pow2(n)                         2^n, n integral and 2^n normal
 *   v_scale(x, n)                     x * 2^n rounded once, n integral, x and 2^(n/2) normal, as is
 *                                     x * 2^(n/2)
 *   v_exponent(x), v_mantissa(x)      x = mantissa * 2^exponent, 1 <= mantissa < 2, of a
 *                                     positive normal x
 *   v_transpose(source, source_stride, target, target_stride)
 *                                     target(j, i) = source(i, j), a block of VEC x VEC
 */
#ifndef DS_SIMD_H
#define DS_SIMD_H

#include <stddef.h>
#include <stdint.h>

#if DS_FLOAT_BITS == 32
typedef float real;
#define DS_FLOAT_NAME f32
#elif DS_FLOAT_BITS == 64
typedef double real;
#define DS_FLOAT_NAME f64
#else
#error "compile with -DDS_FLOAT_BITS=32 or 64"
#endif

/* Whatever takes or returns a vec must be inlined for the vec to stay in its register. */
#define DS_INLINE static inline __attribute__((always_inline))

/* n + DS_ROUNDER holds the integer n (|n| < 2^20) in its lowest bits, one ulp being 1: the way from
 * `real` to the integers of an exponent that needs no conversion instruction. */
#define DS_MANTISSA_BITS (DS_FLOAT_BITS == 32 ? 23 : 52)
#define DS_EXPONENT_BIAS (DS_FLOAT_BITS == 32 ? 127 : 1023)
#define DS_ROUNDER ((real)1.5 * (real)((int64_t)1 << DS_MANTISSA_BITS))

#if defined(DS_TARGET_scalar)
#define DS_ISA_NAME scalar
#include "scalar.h"
#elif defined(DS_TARGET_neon)
#define DS_ISA_NAME neon
#include "neon.h"
#elif defined(DS_TARGET_avx2)
#define DS_ISA_NAME avx2
#include "avx2.h"
#elif defined(DS_TARGET_avx512)
#define DS_ISA_NAME avx512
#include "avx512.h"
#else
#error "compile with -DDS_TARGET_scalar, _neon, _avx2 or _avx512"
#endif

/* DS_NAME(product) is ds_product_avx2_f32 and the like: the name of every symbol that leaves a
 * kernel file. */
#define DS_PASTE(name, isa, type) ds_##name##_##isa##_##type
#define DS_EXPAND(name, isa, type) DS_PASTE(name, isa, type)
#define DS_NAME(name) DS_EXPAND(name, DS_ISA_NAME, DS_FLOAT_NAME)

/* A row of `cols` elements is walked as
 *   for (ptrdiff_t j = 0; j < cols; j += VEC) ... v_load_part(p + j, cols - j) ...
 * where n >= 1 elements remain at p. */
DS_INLINE vec v_load_part(const real *p, ptrdiff_t n) {
  return n >= VEC ? v_load(p) : v_load_first(p, n);
}

DS_INLINE void v_store_part(real *p, vec v, ptrdiff_t n) {
  if (n >= VEC)
    v_store(p, v);
  else
    v_store_first(p, v, n);
}

#endif
