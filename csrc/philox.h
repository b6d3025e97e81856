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

/* Blocks are made together, word by word, in loops that the compiler turns into vectors. */
enum { PHILOX_BLOCKS = 32 };

static inline uint32_t low(uint64_t x) { return (uint32_t)x; }
static inline uint32_t high(uint64_t x) { return (uint32_t)(x >> 32); }

/* words[w][b] = word w of block number first + b. */
static inline void philox(uint64_t seed, uint64_t stream, uint64_t first,
                          uint32_t words[4][PHILOX_BLOCKS]) {
  uint32_t *c0 = words[0], *c1 = words[1], *c2 = words[2], *c3 = words[3];
  uint32_t k0 = low(seed), k1 = high(seed);
  for (int b = 0; b < PHILOX_BLOCKS; ++b) {
    c0[b] = low(first + (uint64_t)b);
    c1[b] = high(first + (uint64_t)b);
    c2[b] = low(stream);
    c3[b] = high(stream);
  }
  for (int round = 0; round < 10; ++round) {
    for (int b = 0; b < PHILOX_BLOCKS; ++b) {
      uint64_t product_0 = UINT64_C(0xD2511F53) * c0[b];
      uint64_t product_2 = UINT64_C(0xCD9E8D57) * c2[b];
      c0[b] = high(product_2) ^ c1[b] ^ k0;
      c1[b] = low(product_2);
      c2[b] = high(product_0) ^ c3[b] ^ k1;
      c3[b] = low(product_0);
    }
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
}

#endif
