/* single.c: one row: its product with the weights of a layer, and the gradients of a network for a
 * batch of one.
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

/* Columns 0 .. of z: `vectors` vectors of them, the last one with `last` columns, and if it is
 * `padded` with zeros behind them. */
DS_INLINE void columns_of_row(const int vectors, ptrdiff_t last, const int padded, ptrdiff_t inputs,
                              const real *x, const real *weights, ptrdiff_t stride,
                              const real *start, real *z) {
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
    v_store_part(z + v * VEC, sum[v], padded || v < vectors - 1 ? VEC : last);
  }
}

DS_INLINE void product_of_row(const int padded, ptrdiff_t inputs, ptrdiff_t outputs, const real *x,
                              const real *w, ptrdiff_t stride, const real *start, real *z) {
  ptrdiff_t j = 0;
#define COLUMNS(vectors)                                                                        \
  for (; j + (vectors) * VEC <= outputs; j += (vectors) * VEC) {                                \
    columns_of_row(vectors, VEC, 1, inputs, x, w + j, stride, start ? start + j : NULL, z + j); \
  }
  COLUMNS(ROW_VECTORS)
  COLUMNS(ROW_VECTORS / 2)
  COLUMNS(1)
#undef COLUMNS
  if (j < outputs) {
    columns_of_row(1, outputs - j, padded, inputs, x, w + j, stride, start ? start + j : NULL,
                   z + j);
  }
}

void DS_NAME(row_product)(ptrdiff_t inputs, ptrdiff_t outputs, const void *x, const void *weights,
                          ptrdiff_t stride, const void *start, void *z) {
  product_of_row(0, inputs, outputs, x, weights, stride, start, z);
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

DS_INLINE void clear_behind(real *row, ptrdiff_t n) { v_store(row + n, v_zero()); }

/* out (inputs,) = weights (inputs, outputs) times delta, with zeros behind. */
static void row_delta(ptrdiff_t inputs, ptrdiff_t outputs, const real *delta, const real *weights,
                      real *out) {
  ptrdiff_t i = 0;
  for (; i + ROW_VECTORS <= inputs; i += ROW_VECTORS) {
    elements_of_delta(ROW_VECTORS, outputs, delta, weights + i * outputs, out + i);
  }
  for (; i < inputs; i++) elements_of_delta(1, outputs, delta, weights + i * outputs, out + i);
  clear_behind(out, inputs);
}

/* gradient (inputs + 1, outputs): of the weights, then of the bias.  Whole vectors of delta, which has
 * zeros behind it, are stored from left to right: what falls beyond a row's end is overwritten by the
 * next row, and what falls beyond the last row is put back. */
static void row_gradient(ptrdiff_t inputs, ptrdiff_t outputs, const real *x, const real *delta,
                         real *gradient) {
  const vec beyond = v_load(gradient + (inputs + 1) * outputs);
  for (ptrdiff_t i = 0; i < inputs; i++, gradient += outputs) {
    const vec x_i = v_set(x[i]);
    for (ptrdiff_t j = 0; j < outputs; j += VEC) {
      v_store(gradient + j, v_fma(x_i, v_load(delta + j), v_zero()));
    }
  }
  for (ptrdiff_t j = 0; j < outputs; j += VEC) {
    v_store(gradient + j, v_add(v_zero(), v_load(delta + j)));
  }
  v_store(gradient + outputs, beyond);
}

DS_INLINE ds_rows one_row(void *data, ptrdiff_t cols) { return (ds_rows){data, cols}; }

double DS_NAME(row_gradients)(const ds_row_pass *pass, const void *parameters, const void *x,
                              ds_rows target, const void *weight, void *gradients) {
  const ds_row_layer *const last = pass->layers + pass->n_layers - 1, *layer = pass->layers;
  const real *weights = parameters, *input = x;
  for (;; layer++) {
    const ptrdiff_t n = layer->outputs, cols = layer->cols, count = layer->inputs * n;
    product_of_row(1, layer->inputs, n, input, weights, n, weights + count, layer->z);
    input = layer->z;
    weights += count + n;
    if (layer->activation && (layer < last || pass->reads_outputs)) {
      layer->activation(1, cols, one_row(layer->z, cols), one_row(layer->y, cols), layer->alpha);
      input = layer->y;
    }
    if (layer == last) break;
  }

  double loss;
  pass->loss(1, last->outputs, one_row((void *)input, last->outputs), target, weight, 1,
             pass->loss_parameters, &loss, one_row(last->delta, last->outputs));
  if (!isfinite(loss)) return loss;
  clear_behind(last->delta, last->outputs);

  real *gradient = (real *)gradients + (weights - (const real *)parameters);
  for (;; layer--) {
    const ptrdiff_t n = layer->outputs, cols = layer->cols, count = layer->inputs * n;
    const int first = layer == pass->layers;
    if (layer->derivative && (layer < last || pass->reads_outputs)) {
      layer->derivative(1, cols, one_row(layer->z, cols), one_row(layer->y, cols),
                        one_row(layer->delta, cols), layer->alpha);
    }
    weights -= count + n;
    gradient -= count + n;
    row_gradient(layer->inputs, n, first ? x : layer[-1].y, layer->delta, gradient);
    if (first) return loss;
    row_delta(layer->inputs, n, layer->delta, weights, layer[-1].delta);
  }
}
