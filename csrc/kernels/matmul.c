/* matmul.c: the register-tile product and the column sums.
 *
 * The sums of a tile stay in registers. Around the tiles a product is cut so that each level of the
 * caches holds what is used again and again (Goto and van de Geijn, 2008), from the outside in:
 *
 *     groups of rows      their part of c stays in the last level
 *     blocks of the depth
 *     panels of columns   the panel of b is packed once for the group, strip after strip
 *     blocks of rows      a block of a stays in the second level, packed if it is transposed
 *     strips of columns   a strip of b stays in the first level:   TILE_VECTORS vectors wide
 *     tiles of rows
 *
 *            strip                    sums: rows x vectors registers, at least 8 of them when
 *          +-------+                  there are rows enough, to hide the latency of the FMA
 *     k -> | b(k,j)|                  per k: `vectors` loads of b, `rows` broadcasts of a
 *          +-------+
 *  +----+  +-------+
 *  |a(i)|  | sums  | -> c, or a scratch tile; then `finish` (bias is where the sums start)
 *  +----+  +-------+
 *
 * Operands are packed when they are transposed or their rows lie so far apart that they would fall on
 * the same few sets of the first-level cache, and when they are used often enough; else they are
 * read where they lie.
 * A strip of one column puts the rows along the vectors instead, and a product of depth one keeps
 * nothing in registers but b.
 * Rows are split evenly over the tiles (32 rows in tiles of at most 6 are 6 6 5 5 5 5, not
 * 6 6 6 6 6 2), so that no tile is left with too few sums to fill the FMA pipes.
 * (benches/test_kernels.py shows the rates.)
 *
 * Numeric contract: element (i, j) is start(i, j), then one FMA per k, k ascending; a further block
 * of the depth goes on from the sums of the one before.  No block, tile or vector width shows in
 * the result. */
#include "kernels.h"
#include "single.h"

DS_INLINE vec load_columns(const real *p, int ragged, ptrdiff_t columns) {
  return ragged ? v_load_first(p, columns) : v_load(p);
}

/* What a tile works on: k_begin .. k_begin + depth, and where its operands lie or are packed. */
typedef struct {
  const ds_product *whole;
  ptrdiff_t k_begin, depth;
  const real *a; /* a(first row of the tile, k_begin) */
  ptrdiff_t a_row, a_depth;
  const real *b; /* b(k_begin, first column of the strip) */
  ptrdiff_t b_depth;
  ds_rows start, c; /* the tile's place in both; no data in start: zero */
  ptrdiff_t last;   /* columns of the strip's last vector */
  int spills; /* what stands behind a row's last column, to the end of the vector, comes later */
} part;

/* A tile; `rows`, `vectors` and `ragged` are constants where this is inlined, so that `sums` becomes
 * registers.  Ragged: the last vector is not full. */
DS_INLINE void tile(const int rows, const int vectors, const int ragged, const part *t) {
  const ptrdiff_t last = t->last;
  vec sums[TILE_ROWS][TILE_VECTORS];
  if (t->start.data) {
    const real *from = t->start.data;
    UNROLL for (int r = 0; r < rows; r++, from += t->start.stride) {
      UNROLL for (int v = 0; v < vectors; v++) {
        sums[r][v] = load_columns(from + v * VEC, ragged && v == vectors - 1, last);
      }
    }
  } else {
    UNROLL for (int r = 0; r < rows; r++) {
      UNROLL for (int v = 0; v < vectors; v++) sums[r][v] = v_zero();
    }
  }

  const ptrdiff_t a_depth = t->a_depth, b_depth = t->b_depth;
  const real *a[TILE_ROWS], *b = t->b;
  UNROLL for (int r = 0; r < rows; r++) a[r] = t->a + r * t->a_row;
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

  const int whole = !ragged || t->spills;
  real *to = t->c.data;
  UNROLL for (int r = 0; r < rows; r++, to += t->c.stride) {
    UNROLL for (int v = 0; v < vectors; v++) {
      if (whole || v < vectors - 1) {
        v_store(to + v * VEC, sums[r][v]);
      } else {
        v_store_first(to + v * VEC, sums[r][v], last);
      }
    }
  }
}

typedef void (*tile_fn)(const part *t);

/* Every tile shape that a product can meet, full and ragged, and the most rows of a tile so many
 * vectors wide: as many sums as there are registers for. */
#define TILE(rows, vectors)                                                         \
  static void tile_##rows##x##vectors(const part *t) { tile(rows, vectors, 0, t); } \
  static void ragged_##rows##x##vectors(const part *t) { tile(rows, vectors, 1, t); }
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
static const int tile_rows[TILE_VECTORS] = {12, 12, 8, 6};
#else
TILES_12(TILE, 1)
TILES_6(TILE, 2)
static const tile_fn tiles[TILE_VECTORS][TILE_ROWS][2] = {{TILES_12(PAIR, 1)}, {TILES_6(PAIR, 2)}};
static const int tile_rows[TILE_VECTORS] = {12, 6};
#endif

/* A strip of b takes half of a first-level cache of 32 kB, or all of it where a strip has rows of more
 * than a cache line: a tile then does so much with each row that the second level keeps up.  With
 * ROW_BLOCK rows, the block of a stays in the second level. */
enum { STRIP_BYTES = STRIP * (int)sizeof(real), ROW_BLOCK = 192, ROW_GROUP = 1024 };
enum { DEPTH_BLOCK = (STRIP_BYTES > 64 ? 32768 : 16384) / STRIP_BYTES };
/* The most elements of a packed panel of b and of a packed block of a. */
enum { PANEL = 512 * 1024 / (int)sizeof(real), BLOCK = ROW_BLOCK * DEPTH_BLOCK };
/* The most elements of c that wait for `finish` when they have no other place. */
enum { CHUNK = 64 * 1024 / (int)sizeof(real) };
/* The most columns of a panel, packed or not: a chunk has rows enough for any tile. */
enum { PANEL_COLUMNS = CHUNK / TILE_ROWS / STRIP * STRIP };
/* The most elements of c that `finish` takes at once, so that they, and as many that it reads beside
 * them, are still in the first-level cache. */
enum { FINISH_AT_ONCE = 16384 / (int)sizeof(real) };
/* Rows lie far apart when they span more than this many elements (a first-level cache full). */
enum { FAR_APART = 32768 / (int)sizeof(real) };
/* So many rows, or columns, must use a packed operand for it to be worth it. */
enum { ROWS_FOR_PACKING = 24, COLUMNS_FOR_PACKING = 3 * STRIP };
/* The most elements of a small c, and the shortest block of the depth that is made for it. */
enum { SMALL = 16384 / (int)sizeof(real), SHORTEST = 32 };
/* Rows to fetch ahead when packing: too far apart for the machine to guess. */
enum { PACK_AHEAD = 8 };

static inline ptrdiff_t least(ptrdiff_t x, ptrdiff_t y) { return x < y ? x : y; }

/* Elements of the packed panel, behind which the packed block of a begins. */
static inline ptrdiff_t panel_size(ptrdiff_t columns, ptrdiff_t depth) {
  return least((columns + STRIP - 1) / STRIP * STRIP * depth, PANEL);
}

static inline ptrdiff_t block_size(ptrdiff_t rows, ptrdiff_t depth) {
  return (least(rows * depth, BLOCK) / VEC + 1) * VEC;
}

ptrdiff_t DS_NAME(product_scratch)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth) {
  return panel_size(columns, depth) + block_size(rows, depth) + least(rows * columns, CHUNK) + VEC;
}

/* b(k_begin.., j..) of a panel to `to`: strip behind strip, in each row behind row. */
static void pack_panel(const part *t, ptrdiff_t j, ptrdiff_t columns, real *to) {
  const ptrdiff_t row = t->whole->b_depth, size = t->depth * STRIP;
  const real *b = (const real *)t->whole->b + t->k_begin * row + j;
  for (ptrdiff_t k = 0; k < t->depth; k++, b += row) {
    for (ptrdiff_t v = 0; v < columns; v += VEC) {
      __builtin_prefetch(b + PACK_AHEAD * row + v);
      v_store(to + v / STRIP * size + k * STRIP + v % STRIP, v_load_part(b + v, columns - v));
    }
  }
}

/* The same from a transposed b, whose columns are contiguous: squares turn over in registers.  What
 * is no whole square is turned over beside the panel: `columns` columns of `depth` elements. */
DS_INLINE void pack_ragged_square(const real *b, ptrdiff_t column, ptrdiff_t columns,
                                  ptrdiff_t depth, real *to) {
  real square[VEC * VEC], turned[VEC * VEC];
  for (ptrdiff_t n = 0; n < VEC; n++) {
    v_store(square + n * VEC, n < columns ? v_load_part(b + n * column, depth) : v_zero());
  }
  v_transpose(square, VEC, turned, VEC);
  for (ptrdiff_t k = 0; k < depth; k++) v_store(to + k * STRIP, v_load(turned + k * VEC));
}

static void pack_transposed_panel(const part *t, ptrdiff_t j, ptrdiff_t columns, real *to) {
  const ptrdiff_t column = t->whole->b_col, size = t->depth * STRIP;
  const real *b = (const real *)t->whole->b + t->k_begin + j * column;
  for (ptrdiff_t v = 0; v < columns; v += VEC, b += VEC * column) {
    real *strip = to + v / STRIP * size + v % STRIP;
    const ptrdiff_t width = least(columns - v, VEC);
    for (ptrdiff_t k = 0; k < t->depth; k += VEC, strip += VEC * STRIP) {
      if (width == VEC && k + VEC <= t->depth) {
        v_transpose(b + k, column, strip, STRIP);
      } else {
        pack_ragged_square(b + k, column, width, least(t->depth - k, VEC), strip);
      }
    }
  }
}

/* How `rows` are split into tiles: `count` of them, of `height` rows, the first `taller` one more. */
typedef struct {
  ptrdiff_t count, height, taller;
} tiling;

static inline tiling tiles_of(ptrdiff_t rows, int vectors) {
  const int most = tile_rows[vectors - 1];
  tiling t = {.count = rows <= most ? rows > 0 : (unsigned)(rows + most - 1) / most};
  t.height = t.count <= 1 ? rows : (unsigned)rows / (unsigned)t.count;
  t.taller = rows - t.height * t.count;
  return t;
}

/* a(i.., k_begin..) of a transposed a, whose rows of one k are contiguous, to `to`: tile behind tile
 * of full width, in each the rows of one k behind those of the k before.  What a vector holds
 * beyond the tile, the next one covers. */
static void pack_block(const part *t, ptrdiff_t i, ptrdiff_t rows, real *to) {
  const ds_product *p = t->whole;
  const tiling split = tiles_of(rows, TILE_VECTORS);
  for (ptrdiff_t n = 0; n < split.count; n++) {
    const ptrdiff_t height = split.height + (n < split.taller);
    const real *a = (const real *)p->a + t->k_begin * p->a_depth + i;
    for (ptrdiff_t k = 0; k < t->depth; k++, a += p->a_depth, to += height) {
      for (ptrdiff_t v = 0; v < height; v += VEC) {
        v_store(to + v, v_load_part(a + v, p->row_end - i - v));
      }
    }
    i += height;
  }
}

/* Ask for the rows that the next tile will go on from. */
static inline void prefetch_rows(ds_rows c, ptrdiff_t i, ptrdiff_t rows) {
  for (ptrdiff_t r = i; r < i + rows; r++) __builtin_prefetch(ds_row(c, r), 1);
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

/* The first vectors * VEC rows of a strip of one column, the rows along the vectors: squares of a
 * turn over on the way.  The last square ends where the depth does and leaves out the k's that it
 * shares with the one before. */
DS_INLINE void rows_of_column(const int vectors, const part *t) {
  _Alignas(64) real turned[VEC * COLUMN_VECTORS * VEC];
  vec sums[COLUMN_VECTORS];
  UNROLL for (int v = 0; v < vectors; v++) {
    sums[v] = t->start.data ? load_column(ds_row(t->start, v * VEC), t->start.stride) : v_zero();
  }
  for (ptrdiff_t k = 0; k < t->depth; k += VEC) {
    const ptrdiff_t from = least(k, t->depth - VEC);
    UNROLL for (int v = 0; v < vectors; v++) {
      v_transpose(t->a + v * VEC * t->a_row + from, t->a_row, turned + v * VEC, vectors * VEC);
    }
    for (ptrdiff_t n = k - from; n < VEC; n++) {
      const vec b_k = v_set(t->b[(from + n) * t->b_depth]);
      UNROLL for (int v = 0; v < vectors; v++) {
        sums[v] = v_fma(v_load(turned + (n * vectors + v) * VEC), b_k, sums[v]);
      }
    }
  }
  UNROLL for (int v = 0; v < vectors; v++) {
    real lanes[VEC];
    if (t->c.stride == 1) {
      v_store(ds_row(t->c, v * VEC), sums[v]);
    } else {
      v_store(lanes, sums[v]);
      for (int r = 0; r < VEC; r++) *(real *)ds_row(t->c, v * VEC + r) = lanes[r];
    }
  }
}

/* On to what lies so many rows below, where so many elements of a have been used. */
static inline void go_down(part *t, ptrdiff_t rows, ptrdiff_t used) {
  t->a += used;
  t->start = ds_at(t->start, rows, 0);
  t->c = ds_at(t->c, rows, 0);
}

/* As many of a column's rows as fill whole vectors; returns how many. */
static ptrdiff_t column(part *t, ptrdiff_t rows) {
  ptrdiff_t done = 0;
  if (VEC == 1 || t->a_depth != 1 || t->depth < VEC) return 0;
  for (; done + COLUMN_VECTORS * VEC <= rows; done += COLUMN_VECTORS * VEC) {
    rows_of_column(COLUMN_VECTORS, t);
    go_down(t, COLUMN_VECTORS * VEC, COLUMN_VECTORS * VEC * t->a_row);
  }
  for (; done + VEC <= rows; done += VEC) {
    rows_of_column(1, t);
    go_down(t, VEC, VEC * t->a_row);
  }
  return done;
}

/* `vectors` vectors of an outer product, the depth being one: nothing is to be kept in registers but
 * b. */
DS_INLINE void outer_vectors(const int vectors, const int ragged, const part *t, ptrdiff_t rows,
                             ptrdiff_t j) {
  const ptrdiff_t a_row = t->a_row, start_row = t->start.stride, c_row = t->c.stride;
  const real *a = t->a, *from = t->start.data;
  real *to = t->c.data;
  vec b[TILE_VECTORS];
  UNROLL for (int v = 0; v < vectors; v++) b[v] = load_columns(t->b + j + v * VEC, ragged, t->last);
  for (ptrdiff_t r = 0; r < rows; r++) {
    const vec a_r = v_set(a[r * a_row]);
    UNROLL for (int v = 0; v < vectors; v++) {
      const ptrdiff_t at = j + v * VEC;
      const vec start = from ? load_columns(from + r * start_row + at, ragged, t->last) : v_zero();
      const vec sum = v_fma(a_r, b[v], start);
      if (ragged) {
        v_store_first(to + r * c_row + at, sum, t->last);
      } else {
        v_store(to + r * c_row + at, sum);
      }
    }
  }
}

static void outer_product(const part *t, ptrdiff_t rows, ptrdiff_t columns) {
  ptrdiff_t j = 0;
  if (columns == STRIP) {
    outer_vectors(TILE_VECTORS, 0, t, rows, 0);
    return;
  }
  for (; j + VEC <= columns; j += VEC) outer_vectors(1, 0, t, rows, j);
  if (j < columns) outer_vectors(1, 1, t, rows, j);
}

/* `count` tiles of `height` rows, one below the other. */
static inline void tiles_below(part *t, ptrdiff_t count, ptrdiff_t height, int vectors,
                               int packed) {
  const ptrdiff_t used = packed ? height * t->depth : height * t->a_row;
  if (packed) t->a_depth = height;
  for (; count > 0; count--) {
    if (t->k_begin) prefetch_rows(t->c, height, height);
    tiles[vectors - 1][height - 1][t->last < VEC](t);
    go_down(t, height, used);
  }
}

/* `rows` rows of the strip of so many columns at t; `block` is the packed block of a, if any. */
static inline void strip(part *t, ptrdiff_t rows, ptrdiff_t columns, const real *block) {
  const int vectors = (int)((columns + VEC - 1) / VEC);
  const int packed = block && vectors == TILE_VECTORS; /* narrower tiles have other heights */
  t->last = columns - (vectors - 1) * VEC;
  t->a_row = packed ? 1 : t->whole->a_row;
  t->a_depth = t->whole->a_depth;
  if (packed) t->a = block;
  if (columns == 1) rows -= column(t, rows);
  if (t->depth == 1) {
    outer_product(t, rows, columns);
    return;
  }
  const tiling split = tiles_of(rows, vectors);
  tiles_below(t, split.taller, split.height + 1, vectors, packed);
  tiles_below(t, split.count - split.taller, split.height, vectors, packed);
}

/* Rows i .. i + rows of the panel that starts at column j; `packed` is that panel of b, or NULL,
 * `scratch` is for a block of a and a chunk of c. */
static void panel(part *t, ptrdiff_t i, ptrdiff_t rows, ptrdiff_t j, ptrdiff_t columns,
                  const real *packed, real *scratch) {
  const ds_product *p = t->whole;
  const int finish = p->finish && t->k_begin + t->depth == p->depth;
  const int pack = p->a_depth != 1 && t->depth <= DEPTH_BLOCK &&
                   t->depth * p->a_depth > FAR_APART && rows >= ROWS_FOR_PACKING &&
                   columns >= COLUMNS_FOR_PACKING;
  const ptrdiff_t height = tile_rows[TILE_VECTORS - 1];
  const ptrdiff_t most = p->c || rows * columns <= CHUNK
                             ? ROW_BLOCK
                             : least(CHUNK / columns / height * height, ROW_BLOCK);
  real *const chunk = scratch + block_size(p->row_end - p->row_begin, t->depth);
  t->spills = !p->c && columns <= STRIP;
  for (ptrdiff_t end = i + rows; i < end; i += most) {
    rows = least(end - i, most);
    if (pack) pack_block(t, i, rows, scratch);
    const ds_rows c = p->c ? ds_at((ds_rows){p->c, p->c_row}, i, j) : (ds_rows){chunk, columns};
    const ds_rows start =
        t->k_begin == 0 ? ds_at((ds_rows){(void *)p->start, p->start_row}, i, j) : c;
    const int at_once = !p->c || rows * columns <= FINISH_AT_ONCE;
    for (ptrdiff_t v = 0; v < columns; v += STRIP) {
      const ptrdiff_t width = least(columns - v, STRIP);
      t->a = (const real *)p->a + i * p->a_row + t->k_begin * p->a_depth;
      t->b = packed ? packed + v * t->depth : (const real *)p->b + t->k_begin * p->b_depth + j + v;
      t->start = ds_at(start, 0, v);
      t->c = ds_at(c, 0, v);
      strip(t, rows, width, pack ? scratch : NULL);
      if (finish && !at_once) p->finish(p->context, i, j + v, rows, width, ds_at(c, 0, v));
    }
    if (finish && at_once) p->finish(p->context, i, j, rows, columns, c);
  }
}

/* Rows i .. i + rows, a block of the depth: panel after panel. */
static void panels(part *t, ptrdiff_t i, ptrdiff_t rows) {
  const ds_product *p = t->whole;
  real *scratch = p->scratch;
  const int transposed = p->b_col != 1;
  const int far_apart = t->depth * p->b_depth > FAR_APART && t->depth <= PANEL / STRIP;
  const int pack = transposed || (far_apart && rows >= ROWS_FOR_PACKING);
  ptrdiff_t most = PANEL_COLUMNS;
  t->b_depth = p->b_depth;
  if (pack) {
    scratch += panel_size(p->col_end - p->col_begin, t->depth);
    most = least(t->depth > 0 ? PANEL / t->depth / STRIP * STRIP : most, most);
    t->b_depth = STRIP;
  }
  for (ptrdiff_t j = p->col_begin; j < p->col_end; j += most) {
    const ptrdiff_t columns = least(p->col_end - j, most);
    if (pack) (transposed ? pack_transposed_panel : pack_panel)(t, j, columns, p->scratch);
    panel(t, i, rows, j, columns, pack ? p->scratch : NULL, scratch);
  }
}

/* The whole product of one row (single.c), where it has a place to go. */
static int one_row(const ds_product *p) {
  const ptrdiff_t i = p->row_begin, j = p->col_begin, columns = p->col_end - j;
  if (p->row_end - i != 1 || p->a_depth != 1 || p->b_col != 1 || !p->c) return 0;
  const ds_rows c = ds_at((ds_rows){p->c, p->c_row}, i, j);
  DS_NAME(row_product)
  (p->depth, columns, ds_at((ds_rows){(void *)p->a, p->a_row}, i, 0).data, (const real *)p->b + j,
   p->b_depth, ds_at((ds_rows){(void *)p->start, p->start_row}, i, j).data, c.data);
  if (p->finish) p->finish(p->context, i, j, 1, columns, c);
  return 1;
}

/* The most of the depth that goes in one block.  When c is small and at hand again and again, the
 * rows of a transposed a, and of b, are not packed but taken in blocks so short that they do not lie
 * far apart. */
static inline ptrdiff_t depth_block(const ds_product *p) {
  const ptrdiff_t rows = p->row_end - p->row_begin, columns = p->col_end - p->col_begin;
  if (p->a_depth == 1 || rows * columns > SMALL || rows < ROWS_FOR_PACKING ||
      columns < COLUMNS_FOR_PACKING) {
    return DEPTH_BLOCK;
  }
  const ptrdiff_t stride = p->a_depth > p->b_depth ? p->a_depth : p->b_depth;
  return least(DEPTH_BLOCK, FAR_APART / least(stride, FAR_APART / SHORTEST));
}

void DS_NAME(product)(const ds_product *p) {
  if (one_row(p)) return;
  /* without c there is no place to leave a sum halfway: the depth stays whole */
  const ptrdiff_t most = p->c ? depth_block(p) : p->depth;
  const ptrdiff_t blocks = p->depth > most ? (p->depth + most - 1) / most : 1;
  for (ptrdiff_t i = p->row_begin; i < p->row_end; i += ROW_GROUP) {
    part t;
    t.whole = p;
    t.k_begin = 0;
    for (ptrdiff_t n = 1; n <= blocks; n++, t.k_begin += t.depth) {
      t.depth = (n < blocks ? p->depth * n / blocks : p->depth) - t.k_begin;
      panels(&t, i, least(p->row_end - i, ROW_GROUP));
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
  for (ptrdiff_t j = 0; j < cols; j += SUMS_AT_ONCE * VEC) {
    const ptrdiff_t columns = least(cols - j, SUMS_AT_ONCE * VEC);
    const real *from = (const real *)block.data + j;
    const real *start_j = start ? (const real *)start + j : NULL;
    real *to = (real *)sums + j;
    switch ((columns + VEC - 1) / VEC) {
      case 4:
        sum_columns(4, rows, columns, from, block.stride, start_j, to);
        break;
      case 3:
        sum_columns(3, rows, columns, from, block.stride, start_j, to);
        break;
      case 2:
        sum_columns(2, rows, columns, from, block.stride, start_j, to);
        break;
      default:
        sum_columns(1, rows, columns, from, block.stride, start_j, to);
    }
  }
}
