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

/* So many blocks are made together. */
enum { PHILOX_BLOCKS = 32 };

/* words[w][b] = word w of block number first + b. */
static inline void philox(uint64_t seed, uint64_t stream, uint64_t first,
                          uint32_t words[4][PHILOX_BLOCKS]) {
  for (int b = 0; b < PHILOX_BLOCKS; ++b) {
    words[0][b] = (uint32_t)(first + (uint64_t)b);
    words[1][b] = (uint32_t)((first + (uint64_t)b) >> 32);
  }
  for (int b = 0; b < PHILOX_BLOCKS; b += WORDS) {
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    word_vec c0 = w_load(&words[0][b]), c1 = w_load(&words[1][b]);
    word_vec c2 = w_set((uint32_t)stream), c3 = w_set((uint32_t)(stream >> 32));
    _Pragma("GCC unroll 10") for (int round = 0; round < 10; ++round) {
      word_vec low_0, high_0, low_2, high_2;
      w_multiply(c0, 0xD2511F53, &low_0, &high_0);
      w_multiply(c2, 0xCD9E8D57, &low_2, &high_2);
      c0 = w_xor(w_xor(high_2, c1), w_set(k0));
      c1 = low_2;
      c2 = w_xor(w_xor(high_0, c3), w_set(k1));
      c3 = low_0;
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    w_store(&words[0][b], c0);
    w_store(&words[1][b], c1);
    w_store(&words[2][b], c2);
    w_store(&words[3][b], c3);
  }
}

#endif
