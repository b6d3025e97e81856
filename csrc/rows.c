/* rows.c: a mini-batch's rows from all over a data set, copied below each other.
 *
 * The rows of a shuffled mini-batch lie where no machine guesses them: the copy would wait for memory
 * at every row, did it not ask for rows some way ahead of it (benches/test_epoch.py).  Rows are bytes
 * here, of whatever type; nothing beyond a row's end is read or written. */
#include <string.h>

#include "downslope.h"

enum { LINE = 64 };       /* bytes of a cache line */
enum { ELEMENT = 4 };     /* bytes of the shortest row: of one number or one weight */
enum { ROWS_AHEAD = 8 };  /* the copy asks so many rows ahead ... */
enum { LINES_AHEAD = 8 }; /* ... for a row's first lines; the machine guesses the others */

/* Rows of `bytes` bytes, which is a constant where this is inlined for the shortest ones.  The gather
 * comes by value, so that the copies can not change it and it stays in registers. */
static inline __attribute__((always_inline)) const char *row_of(const ds_gather g, ptrdiff_t i) {
  return (const char *)g.source + (g.order ? g.order[i] : i) * g.source_stride;
}

static inline void fetch_row(const char *row, ptrdiff_t bytes) {
  for (ptrdiff_t at = 0; at < bytes; at += LINE) __builtin_prefetch(row + at);
}

/* Short rows in pieces of a constant size, which need no call; the last piece overlaps the one
 * before. */
static inline void copy_row(char *to, const char *from, ptrdiff_t bytes) {
  enum { PIECE = 16, HALF = 8, SHORT = 256 };
  if (bytes > SHORT) {
    memcpy(to, from, (size_t)bytes);
  } else if (bytes >= PIECE) {
    for (ptrdiff_t at = 0; at < bytes - PIECE; at += PIECE) memcpy(to + at, from + at, PIECE);
    memcpy(to + bytes - PIECE, from + bytes - PIECE, PIECE);
  } else if (bytes >= HALF) {
    memcpy(to, from, HALF);
    memcpy(to + bytes - HALF, from + bytes - HALF, HALF);
  } else {
    memcpy(to, from, ELEMENT);
  }
}

static inline __attribute__((always_inline)) void copy_rows(const ds_gather g, ptrdiff_t bytes,
                                                            ptrdiff_t rows, char *to,
                                                            ptrdiff_t stride) {
  const ptrdiff_t ahead = bytes < LINES_AHEAD * LINE ? bytes : LINES_AHEAD * LINE;
  for (ptrdiff_t i = 0; i < rows; i++, to += stride) {
    if (i + ROWS_AHEAD < rows) fetch_row(row_of(g, i + ROWS_AHEAD), ahead);
    copy_row(to, row_of(g, i), bytes);
  }
}

void ds_gather_rows(const ds_gather *gather, ptrdiff_t rows, void *target,
                    ptrdiff_t target_stride) {
  const ptrdiff_t bytes = gather->row_bytes;
  if (bytes == ELEMENT) {
    copy_rows(*gather, ELEMENT, rows, target, target_stride);
  } else {
    copy_rows(*gather, bytes, rows, target, target_stride);
  }
}
