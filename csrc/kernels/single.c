/* single.c: the products of one row: forward, delta and gradient of a layer for a batch of one.
 *
 * A row alone leaves a register tile (matmul.c) one sum high, which waits for each FMA in turn:
 * here the columns stand side by side instead, up to ROW_VECTORS vectors of them.  Rows x, delta, z
 * are contiguous; weights and their gradient are (inputs, outputs), dense.
 *
 * Numeric contract: that of matmul.c, element by element: one FMA chain, k ascending; a gradient is
 * such a chain of length one, a bias gradient a sum of one. */
#include "single.h"

#include <math.h>

/* Sums under way at once: as many as hide the latency of an FMA on two pipes. */
enum { ROW_VECTORS = 8 };

/* Columns 0 .. of z: `vectors` vectors of them, the last one with `last` columns. */
DS_INLINE void columns_of_row(const int vectors, ptrdiff_t last, ptrdiff_t inputs, const real *x,
                              const real *weights, ptrdiff_t stride, const real *start, real *z) {
  vec sum[ROW_VECTORS];
  UNROLL for (int v = 0; v < vectors; v++) {
    const ptrdiff_t n = v < vectors - 1 ? VEC : last;
    sum[v] = start ? v_load_part(start + v * VEC, n) : v_zero();
  }
  for (ptrdiff_t k = 0; k < inputs; k++, weights += stride) {
    const vec x_k = v_set(x[k]);
    UNROLL for (int v = 0; v < vectors; v++) {
      const ptrdiff_t n = v < vectors - 1 ? VEC : last;
      sum[v] = v_fma(x_k, v_load_part(weights + v * VEC, n), sum[v]);
    }
  }
  UNROLL for (int v = 0; v < vectors; v++) {
    v_store_part(z + v * VEC, sum[v], v < vectors - 1 ? VEC : last);
  }
}

void DS_NAME(row_product)(ptrdiff_t inputs, ptrdiff_t outputs, const void *x, const void *weights,
                          ptrdiff_t stride, const void *start, void *z) {
  const real *w = weights, *s = start;
  real *to = z;
  ptrdiff_t j = 0;
#define COLUMNS(vectors)                                                              \
  for (; j + (vectors) * VEC <= outputs; j += (vectors) * VEC) {                      \
    columns_of_row(vectors, VEC, inputs, x, w + j, stride, s ? s + j : NULL, to + j); \
  }
  COLUMNS(ROW_VECTORS)
  COLUMNS(ROW_VECTORS / 2)
  COLUMNS(1)
#undef COLUMNS
  if (j < outputs) {
    columns_of_row(1, outputs - j, inputs, x, w + j, stride, s ? s + j : NULL, to + j);
  }
}

DS_INLINE real multiply_add(real a, real b, real c) {
  return DS_FLOAT_BITS == 32 ? (real)fmaf((float)a, (float)b, (float)c) : (real)fma(a, b, c);
}

/* `count` elements of the delta: so many chains side by side. */
DS_INLINE void elements_of_delta(const int count, ptrdiff_t outputs, const real *delta,
                                 const real *weights, real *out) {
  real sum[ROW_VECTORS] = {0};
  for (ptrdiff_t k = 0; k < outputs; k++) {
    UNROLL for (int i = 0; i < count; i++) {
      sum[i] = multiply_add(delta[k], weights[i * outputs + k], sum[i]);
    }
  }
  UNROLL for (int i = 0; i < count; i++) out[i] = sum[i];
}

void DS_NAME(row_delta)(ptrdiff_t inputs, ptrdiff_t outputs, const void *delta, const void *weights,
                        void *out) {
  const real *w = weights;
  real *to = out;
  ptrdiff_t i = 0;
  for (; i + ROW_VECTORS <= inputs; i += ROW_VECTORS) {
    elements_of_delta(ROW_VECTORS, outputs, delta, w + i * outputs, to + i);
  }
  for (; i < inputs; i++) elements_of_delta(1, outputs, delta, w + i * outputs, to + i);
}

/* Whole vectors are stored from left to right: what falls beyond a row's end is overwritten by the
 * next row, and what falls beyond the last row is put back. */
void DS_NAME(row_gradient)(ptrdiff_t inputs, ptrdiff_t outputs, const void *x, const void *delta,
                           void *gradient) {
  const real *from = x, *d = delta;
  real *g = gradient, *const end = g + (inputs + 1) * outputs;
  const vec beyond = v_load(end);
  for (ptrdiff_t i = 0; i < inputs; i++, g += outputs) {
    const vec x_i = v_set(from[i]);
    for (ptrdiff_t j = 0; j < outputs; j += VEC) {
      v_store(g + j, v_fma(x_i, v_load_part(d + j, outputs - j), v_zero()));
    }
  }
  for (ptrdiff_t j = 0; j < outputs; j += VEC) {
    v_store(g + j, v_add(v_zero(), v_load_part(d + j, outputs - j)));
  }
  v_store(end, beyond);
}
