/* peak.c: how many fused multiply-adds the core makes at best.
 *
 * As many independent chains as a product's tile has sums, all in registers: enough to fill the
 * FMA pipes, and no memory to wait for.  Benchmarks quote rates as a share of this one. */
#include "kernels.h"

ptrdiff_t DS_NAME(fma_chains)(ptrdiff_t length, void *sum) {
  enum { ROWS = TILE_SUMS / TILE_VECTORS };
  const vec half = v_set((real)0.5), one = v_set(1);
  vec sums[ROWS][TILE_VECTORS];
  UNROLL for (int r = 0; r < ROWS; r++) {
    UNROLL for (int v = 0; v < TILE_VECTORS; v++) sums[r][v] = v_set((real)(r * TILE_VECTORS + v));
  }
  for (ptrdiff_t k = 0; k < length; k++) {
    UNROLL for (int r = 0; r < ROWS; r++) {
      UNROLL for (int v = 0; v < TILE_VECTORS; v++) sums[r][v] = v_fma(sums[r][v], half, one);
    }
  }
  /* The sum of all is stored, so that no compiler leaves a chain out. */
  vec total = v_zero();
  UNROLL for (int r = 0; r < ROWS; r++) {
    UNROLL for (int v = 0; v < TILE_VECTORS; v++) total = v_add(total, sums[r][v]);
  }
  v_store(sum, total);
  return length * TILE_SUMS * VEC;
}
