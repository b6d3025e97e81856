/* matmul.c: the register-tile product, the transposed copy and the column sums.
 *
 * A product is cut into blocks that fit the caches (ROW_BLOCK rows, DEPTH_BLOCK of the depth), a
 * block into strips of columns (TILE_VECTORS vectors wide) and a strip into tiles of rows; a tile's
 * sums stay in registers:
 *
 *            strip                    sums: rows x vectors registers, at least 8 of them when
 *          +-------+                  there are rows enough, to hide the latency of the FMA
 *     k -> | b(k,j)|                  per k: `vectors` loads of b, `rows` broadcasts of a
 *          +-------+
 *  +----+  +-------+
 *  |a(i)|  | sums  | -> c, or a scratch tile; then `finish` (bias is where the sums start)
 *  +----+  +-------+
 *
 * The part of b that the tiles of a strip share is copied next to each other first when its rows
 * lie so far apart that they would fall on the same few sets of the first-level cache.
 * Rows are split evenly over the tiles (32 rows in tiles of at most 6 are 6 6 5 5 5 5, not
 * 6 6 6 6 6 2), so that no tile is left with too few sums to fill the FMA pipes.
 * (benches/test_kernels.py shows the rates.)
 *
 * Numeric contract: element (i, j) is start(i, j), then one FMA per k, k ascending; a further block
 * of the depth goes on from the sums of the one before.  No block, tile or vector width shows in
 * the result. */
#include "kernels.h"
#include "single.h"

/* The most rows of a tile that is `vectors` wide. */
static inline int tile_rows(int vectors) {
  return TILE_SUMS / vectors < TILE_ROWS ? TILE_SUMS / vectors : TILE_ROWS;
}

DS_INLINE vec load_columns(const real *p, int ragged, ptrdiff_t columns) {
  return ragged ? v_load_first(p, columns) : v_load(p);
}

/* The part of a product that a tile works on: the whole, but for the depth and its operands. */
typedef struct {
  const ds_product *whole;
  ptrdiff_t k_begin, depth;
  const real *b; /* b(k_begin, first column of the strip) */
  ptrdiff_t b_depth;
} part;

/* The tile at rows i.., columns j.., to `out`; `rows`, `vectors` and `ragged` are constants where
 * this is inlined, so that `sums` becomes registers.  Ragged: the last vector holds `last` columns. */
DS_INLINE void tile(const int rows, const int vectors, const int ragged, const part *t, ptrdiff_t i,
                    ptrdiff_t j, ptrdiff_t last, ds_rows out) {
  const ds_product *p = t->whole;
  const ds_rows start =
      t->k_begin == 0 ? (ds_rows){(void *)p->start, p->start_row} : (ds_rows){p->c, p->c_row};
  vec sums[TILE_ROWS][TILE_VECTORS];
  UNROLL for (int r = 0; r < rows; r++) {
    const real *from = ds_at(start, i + r, j).data;
    UNROLL for (int v = 0; v < vectors; v++) {
      sums[r][v] = from ? load_columns(from + v * VEC, ragged && v == vectors - 1, last) : v_zero();
    }
  }

  const ptrdiff_t a_depth = p->a_depth, b_depth = t->b_depth;
  const real *a[TILE_ROWS];
  UNROLL for (int r = 0; r < rows; r++) {
    a[r] = (const real *)p->a + (i + r) * p->a_row + t->k_begin * a_depth;
  }
  const real *b = t->b;
  _Pragma("GCC unroll 4") for (ptrdiff_t k = 0, step = 0; k < t->depth;
                               k++, step += a_depth, b += b_depth) {
    vec b_k[TILE_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) {
      b_k[v] = load_columns(b + v * VEC, ragged && v == vectors - 1, last);
    }
    UNROLL for (int r = 0; r < rows; r++) {
      const vec a_ik = v_set(a[r][step]);
      UNROLL for (int v = 0; v < vectors; v++) sums[r][v] = v_fma(a_ik, b_k[v], sums[r][v]);
    }
  }

  /* In a scratch tile there is room behind a row's last column, and the next row comes after. */
  const int whole = !ragged || !p->c;
  UNROLL for (int r = 0; r < rows; r++) {
    real *to = ds_row(out, r);
    UNROLL for (int v = 0; v < vectors; v++) {
      if (whole || v < vectors - 1) {
        v_store(to + v * VEC, sums[r][v]);
      } else {
        v_store_first(to + v * VEC, sums[r][v], last);
      }
    }
  }
}

typedef void (*tile_fn)(const part *t, ptrdiff_t i, ptrdiff_t j, ptrdiff_t last, ds_rows out);

/* Every tile shape that a product can meet, full and ragged. */
#define TILE(rows, vectors)                                                                      \
  static void tile_##rows##x##vectors(const part *t, ptrdiff_t i, ptrdiff_t j, ptrdiff_t last,   \
                                      ds_rows out) {                                             \
    tile(rows, vectors, 0, t, i, j, last, out);                                                  \
  }                                                                                              \
  static void ragged_##rows##x##vectors(const part *t, ptrdiff_t i, ptrdiff_t j, ptrdiff_t last, \
                                        ds_rows out) {                                           \
    tile(rows, vectors, 1, t, i, j, last, out);                                                  \
  }
#define TILES_6(X, v) X(1, v) X(2, v) X(3, v) X(4, v) X(5, v) X(6, v)
#define TILES_8(X, v) \
  TILES_6(X, v)       \
  X(7, v) X(8, v)
#define TILES_12(X, v) \
  TILES_8(X, v)        \
  X(9, v) X(10, v) X(11, v) X(12, v)
#define PAIR(rows, vectors) {tile_##rows##x##vectors, ragged_##rows##x##vectors},

#if defined DS_TARGET_avx512 || defined DS_TARGET_neon
TILES_12(TILE, 1)
TILES_12(TILE, 2)
TILES_8(TILE, 3)
TILES_6(TILE, 4)
static const tile_fn tiles[TILE_VECTORS][TILE_ROWS][2] = {
    {TILES_12(PAIR, 1)}, {TILES_12(PAIR, 2)}, {TILES_8(PAIR, 3)}, {TILES_6(PAIR, 4)}};
#else
TILES_12(TILE, 1)
TILES_6(TILE, 2)
static const tile_fn tiles[TILE_VECTORS][TILE_ROWS][2] = {{TILES_12(PAIR, 1)}, {TILES_6(PAIR, 2)}};
#endif

/* Sizes of the blocks.  DEPTH_BLOCK of a strip of b takes half of a first-level cache of 32 kB, or
 * all of it where a strip has rows of more than a cache line: a tile then does so much with each row
 * that the second level keeps up.  With ROW_BLOCK rows of a the block stays in the second level. */
enum { STRIP_BYTES = STRIP * (int)sizeof(real), ROW_BLOCK = 192 };
enum { DEPTH_BLOCK = (STRIP_BYTES > 64 ? 32768 : 16384) / STRIP_BYTES };
/* b is copied when its part spans more than this many elements (a first-level cache full) ... */
enum { FAR_APART = 32768 / (int)sizeof(real) };
/* ... and is used by enough rows to be worth it. */
enum { ROWS_FOR_COPY = 24 };

/* Rows to fetch ahead of the copy: too far apart for the machine to guess. */
enum { COPY_AHEAD = 16 };

/* The block of b of a strip, `columns` wide, row below row. */
static void copy_strip(part *t, ptrdiff_t columns, real *copy) {
  for (ptrdiff_t k = 0; k < t->depth; k++) {
    __builtin_prefetch(t->b + (k + COPY_AHEAD) * t->b_depth);
    for (ptrdiff_t v = 0; v < columns; v += VEC) {
      v_store(copy + k * STRIP + v, v_load_part(t->b + k * t->b_depth + v, columns - v));
    }
  }
  t->b = copy;
  t->b_depth = STRIP;
}

/* Vectors of rows that a strip of one column works on at a time. */
enum { COLUMN_VECTORS = 4 };

/* Elements 0 .. VEC - 1 of a column. */
DS_INLINE vec load_column(const real *p, ptrdiff_t stride) {
  real lanes[VEC];
  if (stride == 0) return v_set(p[0]);
  for (int r = 0; r < VEC; r++) lanes[r] = p[r * stride];
  return v_load(lanes);
}

/* Rows i .. i + vectors * VEC of column j, the rows along the vectors: blocks of a turn over in
 * registers on the way.  The last block ends where the depth does and leaves out the k's that it
 * shares with the one before. */
DS_INLINE void rows_of_column(const int vectors, const part *t, ptrdiff_t i, ptrdiff_t j) {
  const ds_product *p = t->whole;
  const ds_rows c = ds_at((ds_rows){p->c, p->c_row}, i, j);
  const ds_rows start =
      t->k_begin == 0 ? ds_at((ds_rows){(void *)p->start, p->start_row}, i, j) : c;
  const real *a = (const real *)p->a + i * p->a_row + t->k_begin;
  _Alignas(64) real turned[VEC * COLUMN_VECTORS * VEC];
  vec sums[COLUMN_VECTORS];
  UNROLL for (int v = 0; v < vectors; v++) {
    sums[v] = start.data ? load_column(ds_row(start, v * VEC), start.stride) : v_zero();
  }
  for (ptrdiff_t k = 0; k < t->depth; k += VEC) {
    const ptrdiff_t from = k + VEC <= t->depth ? k : t->depth - VEC;
    UNROLL for (int v = 0; v < vectors; v++) {
      v_transpose(a + v * VEC * p->a_row + from, p->a_row, turned + v * VEC, vectors * VEC);
    }
    for (ptrdiff_t n = k - from; n < VEC; n++) {
      const vec b_k = v_set(t->b[(from + n) * t->b_depth]);
      UNROLL for (int v = 0; v < vectors; v++) {
        sums[v] = v_fma(v_load(turned + (n * vectors + v) * VEC), b_k, sums[v]);
      }
    }
  }
  UNROLL for (int v = 0; v < vectors; v++) {
    if (c.stride == 1) {
      v_store(ds_row(c, v * VEC), sums[v]);
    } else {
      real lanes[VEC];
      v_store(lanes, sums[v]);
      for (int r = 0; r < VEC; r++) *(real *)ds_row(c, v * VEC + r) = lanes[r];
    }
  }
}

/* As many of the rows i .. i + rows of column j as fill whole vectors; returns their number. */
static ptrdiff_t column(const part *t, ptrdiff_t i, ptrdiff_t rows, ptrdiff_t j) {
  enum { MOST = COLUMN_VECTORS * VEC };
  ptrdiff_t done = 0;
  if (VEC == 1 || t->whole->a_depth != 1 || t->depth < VEC) return 0;
  for (; done + MOST <= rows; done += MOST) rows_of_column(COLUMN_VECTORS, t, i + done, j);
  for (; done + VEC <= rows; done += VEC) rows_of_column(1, t, i + done, j);
  return done;
}

/* Rows i .. i + rows of the strip that starts at column j. */
static void strip(part t, ptrdiff_t i, ptrdiff_t rows, ptrdiff_t j, ptrdiff_t columns) {
  const int vectors = (int)((columns + VEC - 1) / VEC);
  const ptrdiff_t last = columns - (vectors - 1) * VEC;
  _Alignas(64) real copy[DEPTH_BLOCK * STRIP];
  t.b = (const real *)t.whole->b + t.k_begin * t.b_depth + j;
  if (rows >= ROWS_FOR_COPY && t.depth <= DEPTH_BLOCK && t.depth * t.b_depth > FAR_APART) {
    copy_strip(&t, columns, copy);
  }
  const ds_product *p = t.whole;
  const ds_rows c = ds_at((ds_rows){p->c, p->c_row}, i, j);
  const int finish = p->finish && t.k_begin + t.depth == p->depth;
  const ptrdiff_t first = i;
  if (columns == 1 && c.data) i += column(&t, i, rows, j);
  const ptrdiff_t left = first + rows - i;
  const ptrdiff_t count = (left + tile_rows(vectors) - 1) / tile_rows(vectors);
  for (ptrdiff_t n = 0; n < count; n++) {
    const ptrdiff_t height = left / count + (n < left % count);
    const tile_fn tile = tiles[vectors - 1][height - 1][last < VEC];
    if (c.data) {
      tile(&t, i, j, last, ds_at(c, i - first, 0));
    } else {
      _Alignas(64) real scratch[TILE_ROWS * STRIP + VEC];
      const ds_rows out = {scratch, columns};
      tile(&t, i, j, last, out);
      p->finish(p->context, i, j, height, columns, out);
    }
    i += height;
  }
  if (c.data && finish) p->finish(p->context, first, j, rows, columns, c);
}

/* The whole product of one row (single.c), where it has a place to go. */
static int one_row(const ds_product *p) {
  const ptrdiff_t i = p->row_begin, j = p->col_begin, columns = p->col_end - j;
  if (p->row_end - i != 1 || p->a_depth != 1 || !p->c) return 0;
  const ds_rows c = ds_at((ds_rows){p->c, p->c_row}, i, j);
  DS_NAME(row_product)
  (p->depth, columns, ds_at((ds_rows){(void *)p->a, p->a_row}, i, 0).data, (const real *)p->b + j,
   p->b_depth, ds_at((ds_rows){(void *)p->start, p->start_row}, i, j).data, c.data);
  if (p->finish) p->finish(p->context, i, j, 1, columns, c);
  return 1;
}

void DS_NAME(product)(const ds_product *p) {
  if (one_row(p)) return;
  /* without c there is no place to leave a sum halfway: the depth stays whole */
  const ptrdiff_t blocks =
      p->c && p->depth > DEPTH_BLOCK ? (p->depth + DEPTH_BLOCK - 1) / DEPTH_BLOCK : 1;
  for (ptrdiff_t i = p->row_begin; i < p->row_end; i += ROW_BLOCK) {
    const ptrdiff_t rows = p->row_end - i < ROW_BLOCK ? p->row_end - i : ROW_BLOCK;
    for (ptrdiff_t n = 0; n < blocks; n++) {
      part t = {.whole = p, .k_begin = p->depth * n / blocks, .b_depth = p->b_depth};
      t.depth = p->depth * (n + 1) / blocks - t.k_begin;
      for (ptrdiff_t j = p->col_begin; j < p->col_end; j += STRIP) {
        strip(t, i, rows, j, p->col_end - j < STRIP ? p->col_end - j : STRIP);
      }
    }
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

void DS_NAME(add_penalty)(ptrdiff_t, ptrdiff_t, ds_rows, ds_rows, double, double);
void DS_NAME(scale)(ptrdiff_t, ptrdiff_t, ds_rows, double);

void DS_NAME(finish_update)(const void *context, ptrdiff_t i, ptrdiff_t j, ptrdiff_t rows,
                            ptrdiff_t cols, ds_rows tile) {
  const ds_update_finish *f = context;
  const ds_rows parameters = ds_at((ds_rows){f->parameters, f->stride}, i, j);
  void *states[DS_MAX_STATES];
  for (int k = 0; k < DS_MAX_STATES; k++) {
    states[k] = ds_at((ds_rows){f->states[k], f->stride}, i, j).data;
  }
  /* what the next tile of the strip will need, a cache line in each row: too far apart for the
   * machine to guess, and the product in between is long enough for it to arrive */
  for (ptrdiff_t r = rows; r < 2 * rows; r++) {
    __builtin_prefetch(ds_row(parameters, r), 1);
    for (int k = 0; k < DS_MAX_STATES && states[k]; k++) {
      __builtin_prefetch((real *)states[k] + r * f->stride, 1);
    }
  }
  if (cols == f->stride && cols == tile.stride) { /* rows without a gap are one long row */
    cols *= rows;
    rows = 1;
  }
  if (f->l1 != 0 || f->l2 != 0) {
    DS_NAME(add_penalty)(rows, cols, tile, parameters, f->l1, f->l2);
  }
  if (f->remainder != 1) DS_NAME(scale)(rows, cols, parameters, f->remainder);
  if (f->update(rows, cols, tile, parameters.data, states, f->stride, f->coefficients)) {
    __atomic_store_n(f->overflow, 1, __ATOMIC_RELAXED); /* parts of a step share the flag */
  }
}

/* Vectors of column sums that are under way at once. */
enum { SUMS_AT_ONCE = 4 };

/* Blocks of VEC x VEC turn over in registers; the edges go element by element. */
void DS_NAME(transpose)(ptrdiff_t rows, ptrdiff_t cols, ds_rows source, ds_rows target) {
  const ptrdiff_t whole_rows = rows - rows % VEC, whole_cols = cols - cols % VEC;
  for (ptrdiff_t i = 0; i < whole_rows; i += VEC) {
    for (ptrdiff_t j = 0; j < whole_cols; j += VEC) {
      v_transpose(ds_at(source, i, j).data, source.stride, ds_at(target, j, i).data, target.stride);
    }
  }
  for (ptrdiff_t i = 0; i < rows; i++) {
    const real *from = ds_row(source, i);
    for (ptrdiff_t j = i < whole_rows ? whole_cols : 0; j < cols; j++) {
      ((real *)ds_row(target, j))[i] = from[j];
    }
  }
}

/* `vectors` vectors of columns side by side: one alone would wait for each addition in turn. */
DS_INLINE void sum_columns(const int vectors, ptrdiff_t rows, ptrdiff_t columns, const real *block,
                           ptrdiff_t stride, const real *start, real *sums) {
  vec sum[SUMS_AT_ONCE];
  UNROLL for (int v = 0; v < vectors; v++) {
    sum[v] = start ? v_load_part(start + v * VEC, columns - v * VEC) : v_zero();
  }
  for (ptrdiff_t i = 0; i < rows; i++, block += stride) {
    UNROLL for (int v = 0; v < vectors - 1; v++) sum[v] = v_add(sum[v], v_load(block + v * VEC));
    const int last = vectors - 1;
    sum[last] = v_add(sum[last], v_load_part(block + last * VEC, columns - last * VEC));
  }
  UNROLL for (int v = 0; v < vectors; v++) {
    v_store_part(sums + v * VEC, sum[v], columns - v * VEC);
  }
}

void DS_NAME(column_sums)(ptrdiff_t rows, ptrdiff_t cols, ds_rows block, const void *start,
                          void *sums) {
  enum { WIDTH = SUMS_AT_ONCE * VEC };
  ptrdiff_t j = 0;
  for (; j + WIDTH <= cols; j += WIDTH) {
    sum_columns(SUMS_AT_ONCE, rows, WIDTH, (const real *)block.data + j, block.stride,
                start ? (const real *)start + j : NULL, (real *)sums + j);
  }
  for (; j < cols; j += VEC) {
    sum_columns(1, rows, cols - j < VEC ? cols - j : VEC, (const real *)block.data + j,
                block.stride, start ? (const real *)start + j : NULL, (real *)sums + j);
  }
}
