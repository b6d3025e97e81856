/* matmul.c: the register-tile product, the transposed copy and the column sums.
 *
 * A product is cut into strips of columns (TILE_VECTORS vectors wide) and each strip into tiles of
 * rows; a tile's sums stay in registers for the whole depth:
 *
 *            strip                    sums: rows x vectors registers, at least 8 of them when
 *          +-------+                  there are rows enough, to hide the latency of the FMA
 *     k -> | b(k,j)|                  per k: `vectors` loads of b, `rows` broadcasts of a
 *          +-------+
 *  +----+  +-------+
 *  |a(i)|  | sums  | -> c, or a scratch tile; then `finish` (bias is where the sums start)
 *  +----+  +-------+
 *
 * Rows are split evenly over the tiles (32 rows in tiles of at most 6 are 6 6 5 5 5 5, not
 * 6 6 6 6 6 2), so that no tile is left with too few sums to fill the FMA pipes.
 *
 * Numeric contract: element (i, j) is start(i, j), then one FMA per k, k ascending; no tile shape,
 * strip or vector width shows in the result. */
#include "kernels.h"

/* The most rows of a tile that is `vectors` wide. */
static inline int tile_rows(int vectors) {
  return TILE_SUMS / vectors < TILE_ROWS ? TILE_SUMS / vectors : TILE_ROWS;
}

DS_INLINE vec load_columns(const real *p, int ragged, ptrdiff_t columns) {
  return ragged ? v_load_first(p, columns) : v_load(p);
}

/* The tile at rows i.., columns j..; `rows`, `vectors` and `ragged` are constants where this is
 * inlined, so that `sums` becomes registers.  Ragged: the last vector holds `last` columns. */
DS_INLINE void tile(const int rows, const int vectors, const int ragged,
                               const ds_product *p, ptrdiff_t i, ptrdiff_t j, ptrdiff_t last) {
  const ptrdiff_t columns = (vectors - 1) * VEC + last;
  vec sums[TILE_ROWS][TILE_VECTORS];
  const real *start = (const real *)p->start + (p->start ? i * p->start_row + j : 0);
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int v = 0; v < vectors; v++) {
      sums[r][v] = p->start ? load_columns(start + r * p->start_row + v * VEC,
                                           ragged && v == vectors - 1, last)
                            : v_zero();
    }
  }

  const ptrdiff_t a_row = p->a_row, a_depth = p->a_depth, b_depth = p->b_depth;
  const real *a[TILE_ROWS];
  UNROLL for (int r = 0; r < rows; r++) a[r] = (const real *)p->a + (i + r) * a_row;
  const real *b = (const real *)p->b + j / STRIP * p->b_strip + j % STRIP;
  for (ptrdiff_t k = 0, step = 0; k < p->depth; k++, step += a_depth, b += b_depth) {
    vec b_k[TILE_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) {
      b_k[v] = load_columns(b + v * VEC, ragged && v == vectors - 1, last);
    }
    UNROLL for (int r = 0; r < rows; r++) {
      const vec a_ik = v_set(a[r][step]);
      UNROLL for (int v = 0; v < vectors; v++) sums[r][v] = v_fma(a_ik, b_k[v], sums[r][v]);
    }
  }

  _Alignas(64) real scratch[TILE_ROWS * STRIP];
  const ds_rows out = p->c ? ds_at((ds_rows){p->c, p->c_row}, i, j) : (ds_rows){scratch, STRIP};
  UNROLL for (int r = 0; r < rows; r++) {
    real *c = ds_row(out, r);
    UNROLL for (int v = 0; v < vectors; v++) {
      if (ragged && v == vectors - 1) {
        v_store_first(c + v * VEC, sums[r][v], last);
      } else {
        v_store(c + v * VEC, sums[r][v]);
      }
    }
  }
  if (p->finish) p->finish(p->context, i, j, rows, columns, out);
}

typedef void (*tile_fn)(const ds_product *p, ptrdiff_t i, ptrdiff_t j, ptrdiff_t last);

/* Every tile shape that a product can meet, full and ragged. */
#define TILE(rows, vectors)                                                                 \
  static void tile_##rows##x##vectors(const ds_product *p, ptrdiff_t i, ptrdiff_t j,        \
                                      ptrdiff_t last) {                                     \
    tile(rows, vectors, 0, p, i, j, last);                                                  \
  }                                                                                         \
  static void ragged_##rows##x##vectors(const ds_product *p, ptrdiff_t i, ptrdiff_t j,      \
                                        ptrdiff_t last) {                                   \
    tile(rows, vectors, 1, p, i, j, last);                                                  \
  }
#define TILES_6(X, v) X(1, v) X(2, v) X(3, v) X(4, v) X(5, v) X(6, v)
#define TILES_8(X, v) TILES_6(X, v) X(7, v) X(8, v)
#define TILES_12(X, v) TILES_8(X, v) X(9, v) X(10, v) X(11, v) X(12, v)
#define PAIR(rows, vectors) {tile_##rows##x##vectors, ragged_##rows##x##vectors},

#if defined DS_TARGET_avx512 || defined DS_TARGET_neon
TILES_12(TILE, 1) TILES_12(TILE, 2) TILES_8(TILE, 3) TILES_6(TILE, 4)
static const tile_fn tiles[TILE_VECTORS][TILE_ROWS][2] = {
    {TILES_12(PAIR, 1)}, {TILES_12(PAIR, 2)}, {TILES_8(PAIR, 3)}, {TILES_6(PAIR, 4)}};
#else
TILES_12(TILE, 1) TILES_6(TILE, 2)
static const tile_fn tiles[TILE_VECTORS][TILE_ROWS][2] = {{TILES_12(PAIR, 1)}, {TILES_6(PAIR, 2)}};
#endif

/* All rows of the strip that starts at column j. */
static void strip(const ds_product *p, ptrdiff_t j, ptrdiff_t columns) {
  const int vectors = (int)((columns + VEC - 1) / VEC);
  const ptrdiff_t last = columns - (vectors - 1) * VEC;
  const ptrdiff_t rows = p->row_end - p->row_begin;
  const ptrdiff_t count = (rows + tile_rows(vectors) - 1) / tile_rows(vectors);
  for (ptrdiff_t t = 0, i = p->row_begin; t < count; t++) {
    const ptrdiff_t height = rows / count + (t < rows % count);
    tiles[vectors - 1][height - 1][last < VEC](p, i, j, last);
    i += height;
  }
}

void DS_NAME(product)(const ds_product *p) {
  for (ptrdiff_t j = p->col_begin; j < p->col_end; j += STRIP) {
    strip(p, j, p->col_end - j < STRIP ? p->col_end - j : STRIP);
  }
}

void DS_NAME(finish_activation)(const void *context, ptrdiff_t i, ptrdiff_t j, ptrdiff_t rows,
                                ptrdiff_t cols, ds_rows tile) {
  const ds_activation_finish *f = context;
  f->activation(rows, cols, tile, ds_at(f->y, i, j), f->alpha);
}

void DS_NAME(finish_derivative)(const void *context, ptrdiff_t i, ptrdiff_t j, ptrdiff_t rows,
                                ptrdiff_t cols, ds_rows tile) {
  const ds_derivative_finish *f = context;
  f->derivative(rows, cols, ds_at(f->z, i, j), ds_at(f->y, i, j), tile, f->alpha);
}

void DS_NAME(finish_update)(const void *context, ptrdiff_t i, ptrdiff_t j, ptrdiff_t rows,
                            ptrdiff_t cols, ds_rows tile) {
  const ds_update_finish *f = context;
  const ds_rows parameters = ds_at((ds_rows){f->parameters, f->stride}, i, j);
  const ds_rows state_1 = ds_at((ds_rows){f->state_1, f->stride}, i, j);
  const ds_rows state_2 = ds_at((ds_rows){f->state_2, f->stride}, i, j);
  if (f->update(rows, cols, tile, parameters.data, state_1.data, state_2.data, f->stride,
                f->coefficients)) {
    __atomic_store_n(f->overflow, 1, __ATOMIC_RELAXED); /* parts of a step share the flag */
  }
}

/* Blocks of VEC x VEC turn over in registers; the edges go element by element. */
void DS_NAME(transpose)(ptrdiff_t rows, ptrdiff_t cols, ds_rows source, ds_rows target) {
  const ptrdiff_t whole_rows = rows - rows % VEC, whole_cols = cols - cols % VEC;
  for (ptrdiff_t i = 0; i < whole_rows; i += VEC) {
    for (ptrdiff_t j = 0; j < whole_cols; j += VEC) {
      v_transpose(ds_at(source, i, j).data, source.stride, ds_at(target, j, i).data,
                  target.stride);
    }
  }
  for (ptrdiff_t i = 0; i < rows; i++) {
    const real *from = ds_row(source, i);
    for (ptrdiff_t j = i < whole_rows ? whole_cols : 0; j < cols; j++) {
      ((real *)ds_row(target, j))[i] = from[j];
    }
  }
}

void DS_NAME(column_sums)(ptrdiff_t rows, ptrdiff_t cols, ds_rows block, const void *start,
                          void *sums) {
  for (ptrdiff_t j = 0; j < cols; j += VEC) {
    const ptrdiff_t columns = cols - j;
    vec sum = start ? v_load_part((const real *)start + j, columns) : v_zero();
    for (ptrdiff_t i = 0; i < rows; i++) {
      sum = v_add(sum, v_load_part((const real *)ds_row(block, i) + j, columns));
    }
    v_store_part((real *)sums + j, sum, columns);
  }
}
