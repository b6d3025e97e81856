/* philox.h: the generator under everything random here.
 *
 * Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
 * 2011): a block of four words of 32 bits is a function of (seed, stream, number of the block).  The
 * key is the seed, low word first; the counter is the block's number (low word, high word), then
 * the stream (low word, high word).
 *
 * Numeric contract: integers only, so the same words wherever it is compiled. */
#ifndef DS_PHILOX_H
#define DS_PHILOX_H

#include <stdint.h>

#include "simd/words.h"

/* So many blocks are made together, and of vectors of them so many side by side: each round waits for
 * the one before. */
enum { PHILOX_BLOCKS = 32, PHILOX_VECTORS = WORDS > 1 ? 2 : 1 };

/* One round of the counter c (4,) under the key (k0, k1). */
DS_WORDS void philox_round(word_vec *c, uint32_t k0, uint32_t k1) {
  word_vec low_0, high_0, low_2, high_2;
  w_multiply(c[0], 0xD2511F53, &low_0, &high_0);
  w_multiply(c[2], 0xCD9E8D57, &low_2, &high_2);
  c[0] = w_xor(w_xor(high_2, c[1]), w_set(k0));
  c[1] = low_2;
  c[2] = w_xor(w_xor(high_0, c[3]), w_set(k1));
  c[3] = low_0;
}

/* words[w][b] = word w of block number first + b. */
static inline void philox(uint64_t seed, uint64_t stream, uint64_t first,
                          uint32_t words[4][PHILOX_BLOCKS]) {
  for (int b = 0; b < PHILOX_BLOCKS; ++b) {
    words[0][b] = (uint32_t)(first + (uint64_t)b);
    words[1][b] = (uint32_t)((first + (uint64_t)b) >> 32);
  }
  for (int b = 0; b < PHILOX_BLOCKS; b += PHILOX_VECTORS * WORDS) {
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    word_vec c[PHILOX_VECTORS][4];
    for (int v = 0; v < PHILOX_VECTORS; ++v) {
      c[v][0] = w_load(&words[0][b + v * WORDS]);
      c[v][1] = w_load(&words[1][b + v * WORDS]);
      c[v][2] = w_set((uint32_t)stream);
      c[v][3] = w_set((uint32_t)(stream >> 32));
    }
    _Pragma("GCC unroll 10") for (int round = 0; round < 10; ++round) {
      for (int v = 0; v < PHILOX_VECTORS; ++v) philox_round(c[v], k0, k1);
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    for (int v = 0; v < PHILOX_VECTORS; ++v) {
      for (int w = 0; w < 4; ++w) w_store(&words[w][b + v * WORDS], c[v][w]);
    }
  }
}

#endif
