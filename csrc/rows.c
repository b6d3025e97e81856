/* rows.c: a mini-batch's rows from all over a data set, copied below each other.
 *
 * The rows of a shuffled mini-batch lie where no machine guesses them: the copy would wait for memory
 * at every row, did it not ask for rows some way ahead of it (benches/test_epoch.py).  A row of up to
 * eight pieces is copied without a loop: each number of pieces has a walk over the rows of its own, as
 * a loop or a call would take longer than the copy.  Rows are bytes here, of whatever type; nothing
 * beyond a row's end is read or written. */
#include <string.h>

#include "downslope.h"

enum { LINE = 64 };       /* bytes of a cache line */
enum { ROWS_AHEAD = 8 };  /* the copy asks so many rows ahead ... */
enum { LINES_AHEAD = 8 }; /* ... for a row's first lines; the machine guesses the others */
/* Bytes that are copied at once; the shortest row is one number, or one weight, in float32. */
enum { ELEMENT = 4, SHORT = 8, PIECE = 16 };

#define INLINE static inline __attribute__((always_inline))

/* The gather comes by value, so that the copies can not change it and it stays in registers. */
INLINE const char *row_of(const ds_gather g, ptrdiff_t i) {
  return (const char *)g.source + (g.order ? g.order[i] : i) * g.source_stride;
}

INLINE void fetch_row(const char *row, ptrdiff_t bytes) {
  for (ptrdiff_t at = 0; at < bytes; at += LINE) __builtin_prefetch(row + at);
}

/* The last piece ends where the row does, and may overlap the one before. */
INLINE void copy_pieces(const int pieces, const size_t piece, char *to, const char *from,
                        size_t bytes) {
  const size_t last = bytes - piece;
  for (size_t at = 0; at < (size_t)(pieces - 1) * piece; at += piece) {
    memcpy(to + at, from + at, piece);
  }
  memcpy(to + last, from + last, piece);
}

/* All rows; `pieces` and `piece` are constants where this is inlined.  Without pieces: rows of any
 * length. */
INLINE void copy_rows(const int pieces, const size_t piece, const ds_gather g, ptrdiff_t rows,
                      char *to, ptrdiff_t stride) {
  const ptrdiff_t bytes = pieces ? pieces * (ptrdiff_t)piece : g.row_bytes;
  const ptrdiff_t ahead = bytes < LINES_AHEAD * LINE ? bytes : LINES_AHEAD * LINE;
  for (ptrdiff_t i = 0; i < rows; i++, to += stride) {
    if (i + ROWS_AHEAD < rows) fetch_row(row_of(g, i + ROWS_AHEAD), ahead);
    if (pieces) {
      copy_pieces(pieces, piece, to, row_of(g, i), (size_t)g.row_bytes);
    } else {
      memcpy(to, row_of(g, i), (size_t)g.row_bytes);
    }
  }
}

void ds_gather_rows(const ds_gather *gather, ptrdiff_t rows, void *target,
                    ptrdiff_t target_stride) {
  const ds_gather g = *gather;
  const ptrdiff_t bytes = g.row_bytes;
  if (bytes <= ELEMENT) {
    copy_rows(1, ELEMENT, g, rows, target, target_stride);
  } else if (bytes <= 2 * ELEMENT) {
    copy_rows(2, ELEMENT, g, rows, target, target_stride);
  } else if (bytes <= 2 * SHORT) {
    copy_rows(2, SHORT, g, rows, target, target_stride);
  } else if (bytes <= 2 * PIECE) {
    copy_rows(2, PIECE, g, rows, target, target_stride);
  } else if (bytes <= 3 * PIECE) {
    copy_rows(3, PIECE, g, rows, target, target_stride);
  } else if (bytes <= 4 * PIECE) {
    copy_rows(4, PIECE, g, rows, target, target_stride);
  } else if (bytes <= 5 * PIECE) {
    copy_rows(5, PIECE, g, rows, target, target_stride);
  } else if (bytes <= 6 * PIECE) {
    copy_rows(6, PIECE, g, rows, target, target_stride);
  } else if (bytes <= 7 * PIECE) {
    copy_rows(7, PIECE, g, rows, target, target_stride);
  } else if (bytes <= 8 * PIECE) {
    copy_rows(8, PIECE, g, rows, target, target_stride);
  } else {
    copy_rows(0, 0, g, rows, target, target_stride);
  }
}
