/* noise.c: random bits, and what a training step draws: dropout masks, normal noise for its inputs.
 *
 * Element e of a stream is a function of (seed, stream, e), so that rows can be made by any thread,
 * in blocks of any size.  The words of philox.h are taken as they lie, chunk by chunk: PHILOX_BLOCKS
 * blocks, word 0 of them all, then word 1, ... .  A mask takes 16 bits an element (MASK_CHUNK elements
 * a chunk: the low halves of 32 words, then their high halves), a normal number takes a word.
 *
 * Numeric contract: integers, exact conversions, and the operations of simd/ in one order. */
#include <string.h>

#include "../philox.h"
#include "elementary.h"
#include "kernels.h"

enum { MASK_CHUNK = 8 * PHILOX_BLOCKS, NORMAL_CHUNK = 4 * PHILOX_BLOCKS };

static inline ptrdiff_t at_most(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* ---- Draws for random.c: two of each block, words 0 and 1, then 2 and 3, the low half first ---- */

void DS_NAME(random_draws)(uint64_t seed, uint64_t stream, uint64_t first, uint64_t *bits) {
  uint32_t words[4][PHILOX_BLOCKS];
  _Static_assert(DS_DRAWS == 2 * PHILOX_BLOCKS, "random.c takes what is made together");
  philox(seed, stream, first / 2, words);
  for (int b = 0; b < PHILOX_BLOCKS; b++) {
    bits[2 * b] = (uint64_t)words[1][b] << 32 | words[0][b];
    bits[2 * b + 1] = (uint64_t)words[3][b] << 32 | words[2][b];
  }
}

/* ---- Dropout ---- */

static void mask_chunk(uint64_t seed, uint64_t stream, uint64_t chunk, uint32_t dropped, real kept,
                       real *mask) {
  uint32_t words[4][PHILOX_BLOCKS];
  philox(seed, stream, chunk * PHILOX_BLOCKS, words);
  for (int w = 0; w < 4; w++, mask += 2 * PHILOX_BLOCKS) {
    for (int b = 0; b < PHILOX_BLOCKS; b++) {
      mask[b] = (words[w][b] & 0xFFFF) < dropped ? 0 : kept;
      mask[PHILOX_BLOCKS + b] = words[w][b] >> 16 < dropped ? 0 : kept;
    }
  }
}

void DS_NAME(dropout_mask)(uint64_t seed, uint64_t stream, uint64_t first, ptrdiff_t n, int dropped,
                           void *mask) {
  const real kept = (real)((double)DS_DROPOUT_ONE / (DS_DROPOUT_ONE - dropped));
  real *out = mask, part[MASK_CHUNK];
  while (n > 0) {
    const uint64_t chunk = first / MASK_CHUNK;
    const ptrdiff_t skipped = first % MASK_CHUNK, count = at_most(MASK_CHUNK - skipped, n);
    const int whole = count == MASK_CHUNK;
    mask_chunk(seed, stream, chunk, (uint32_t)dropped, kept, whole ? out : part);
    if (!whole) memcpy(out, part + skipped, (size_t)count * sizeof(real));
    out += count, first += (uint64_t)count, n -= count;
  }
}

void DS_NAME(multiply)(ptrdiff_t rows, ptrdiff_t cols, ds_rows x, ds_rows mask, ds_rows y) {
  if (x.stride == cols && mask.stride == cols && y.stride == cols) cols *= rows, rows = 1;
  for (ptrdiff_t i = 0; i < rows; i++) {
    const real *from = ds_row(x, i), *factor = ds_row(mask, i);
    real *to = ds_row(y, i);
    ptrdiff_t j = 0;
    for (; j + VEC <= cols; j += VEC) v_store(to + j, v_mul(v_load(from + j), v_load(factor + j)));
    const ptrdiff_t left = cols - j;
    if (left) {
      const vec last = v_mul(v_load_first(from + j, left), v_load_first(factor + j, left));
      v_store_first(to + j, last, left);
    }
  }
}

/* ---- Normal noise ---- */

/* The quantile sqrt(2) erfinv(u) of the normal distribution, -1 < u < 1, within 4e-7 of it:
 * M. Giles, "Approximating the erfinv function", GPU Computing Gems Jade (2011), the single
 * precision form.  It serves both types: noise needs no more. */
DS_INLINE vec normal_quantile(vec u) {
  static const real central[] = {1.50140941,     0.246640727,    -0.00417768164,
                                 -0.00125372503, 0.00021858087,  -4.39150654e-06,
                                 -3.5233877e-06, 3.43273939e-07, 2.81022636e-08};
  static const real tail[] = {2.83297682,    1.00167406,     0.00943887047,
                              -0.0076224613, 0.00573950773,  -0.00367342844,
                              0.00134934322, 0.000100950558, -0.000200214257};
  const vec one = v_set(1);
  const vec w = v_neg(v_log(v_mul(v_sub(one, u), v_add(one, u))));
  const vec near = POLYNOMIAL(v_sub(w, v_set((real)2.5)), central);
  const vec far = POLYNOMIAL(v_sub(v_sqrt(w), v_set(3)), tail);
  const vec factor = v_select(v_less(w, v_set(5)), near, far);
  return v_mul(v_mul(factor, u), v_set((real)1.41421356237309504880));
}

/* A word's high 23 bits k make u = (2 k + 1) 2^-23 - 1: exact, symmetric, never -1 or 1. */
static void normal_chunk(uint64_t seed, uint64_t stream, uint64_t chunk, real *out) {
  uint32_t words[4][PHILOX_BLOCKS];
  philox(seed, stream, chunk * PHILOX_BLOCKS, words);
  for (int w = 0; w < 4; w++) {
    for (int b = 0; b < PHILOX_BLOCKS; b++) {
      out[w * PHILOX_BLOCKS + b] = (real)(int32_t)(2 * (words[w][b] >> 9) + 1) * (real)0x1p-23 - 1;
    }
  }
  for (int i = 0; i < NORMAL_CHUNK; i += VEC) v_store(out + i, normal_quantile(v_load(out + i)));
}

void DS_NAME(add_normal)(uint64_t seed, uint64_t stream, uint64_t first, ptrdiff_t rows,
                         ptrdiff_t cols, ds_rows x, double deviation, ds_rows y) {
  const vec spread = v_set((real)deviation);
  real numbers[NORMAL_CHUNK];
  ptrdiff_t at = first % NORMAL_CHUNK;
  uint64_t chunk = first / NORMAL_CHUNK;
  normal_chunk(seed, stream, chunk, numbers);
  for (ptrdiff_t i = 0; i < rows; i++) {
    const real *from = ds_row(x, i);
    real *to = ds_row(y, i);
    for (ptrdiff_t j = 0, count; j < cols; j += count, at += count) {
      if (at == NORMAL_CHUNK) normal_chunk(seed, stream, ++chunk, numbers), at = 0;
      count = at_most(at_most(VEC, cols - j), NORMAL_CHUNK - at);
      const vec sum = v_fma(spread, v_load_part(numbers + at, count), v_load_part(from + j, count));
      v_store_part(to + j, sum, count);
    }
  }
}
