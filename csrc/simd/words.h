/* words.h: vectors of 32-bit words, for the random generator (philox.h).
 *
 *   w_load(p), w_store(p, a), w_set(s), w_xor(a, b)
 *   w_multiply(a, s, &low, &high)     both halves of the products with a word s
 *
 * AVX2, and what contains it, multiplies every other word: written out, the even and odd products take
 * half the instructions that the compiler finds.  Elsewhere a vector is one word, and the compiler
 * makes vectors of the loop around it. */
#ifndef DS_SIMD_WORDS_H
#define DS_SIMD_WORDS_H

#include <stdint.h>

#define DS_WORDS static inline __attribute__((always_inline))

#ifdef __AVX2__
#include <immintrin.h>

enum { WORDS = 8 };
typedef __m256i word_vec;

DS_WORDS word_vec w_load(const uint32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
DS_WORDS void w_store(uint32_t *p, word_vec a) { _mm256_storeu_si256((__m256i *)p, a); }
DS_WORDS word_vec w_set(uint32_t s) { return _mm256_set1_epi32((int)s); }
DS_WORDS word_vec w_xor(word_vec a, word_vec b) { return _mm256_xor_si256(a, b); }
DS_WORDS void w_multiply(word_vec a, uint32_t s, word_vec *low, word_vec *high) {
  enum { ODD = 0xAA };
  const word_vec factor = w_set(s), even = _mm256_mul_epu32(a, factor);
  const word_vec odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), factor);
  *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), ODD);
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, ODD);
}
#else
enum { WORDS = 1 };
typedef uint32_t word_vec;

DS_WORDS word_vec w_load(const uint32_t *p) { return *p; }
DS_WORDS void w_store(uint32_t *p, word_vec a) { *p = a; }
DS_WORDS word_vec w_set(uint32_t s) { return s; }
DS_WORDS word_vec w_xor(word_vec a, word_vec b) { return a ^ b; }
DS_WORDS void w_multiply(word_vec a, uint32_t s, word_vec *low, word_vec *high) {
  const uint64_t product = (uint64_t)a * s;
  *low = (uint32_t)product;
  *high = (uint32_t)(product >> 32);
}
#endif

#endif
