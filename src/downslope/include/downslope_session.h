/* downslope_session.h: a network for code without Python objects and without the GIL.
 *
 * A Python object, `downslope.Session(trainer, rows)`, makes the memory and hands out a PyCapsule
 * named DS_SESSION; the pointer in it is a `const ds_session *`.  Ask for it once, with the GIL:
 *
 *     const ds_session *net = PyCapsule_GetPointer(capsule, DS_SESSION);
 *
 * and from then on call its functions from any thread, one call at a time.  Keep the capsule for
 * as long.  No call allocates, raises or takes the GIL.
 *
 * Matrices are row-major without gaps, of float or double as `float_bits` says: x (rows, inputs),
 * outputs (rows, outputs), targets (rows, targets), or (rows,) int64_t for a session with labels.
 * The caller vouches for the numbers' being finite, and labels' being in range. */
#ifndef DOWNSLOPE_SESSION_H
#define DOWNSLOPE_SESSION_H

#include <stddef.h>
#include <stdint.h>

#define DS_SESSION "downslope.session.1"

enum {
  DS_SESSION_OK = 0,
  DS_SESSION_LOSS_NOT_FINITE = 1, /* nothing was updated */
  DS_SESSION_OVERFLOW = 2,        /* parameters that would not be finite were left as they were */
  DS_SESSION_ROWS = 3             /* not 1 .. max_rows, or not those of the last forward */
};

typedef struct ds_session {
  void *self; /* the first argument of every function */
  ptrdiff_t inputs, outputs, targets, parameters, max_rows;
  int float_bits, has_labels;
  void *parameter_values, *gradients; /* (parameters,) each */

  /* The outputs, nothing kept. */
  int (*predict)(void *self, const void *x, ptrdiff_t rows, void *out);
  /* The outputs, keeping what `backward` needs. */
  int (*forward)(void *self, const void *x, ptrdiff_t rows, void *out);
  /* From the gradient by the outputs to `gradients` (added to them if `accumulate`) and to the
   * gradient by the inputs, d_x (rows, inputs) or NULL. */
  int (*backward)(void *self, const void *d_out, ptrdiff_t rows, int accumulate, void *d_x);
  /* The optimiser's step with `gradients` as they stand. */
  int (*update)(void *self);
  /* Forward, backward and update from one batch; its mean loss before the update. */
  int (*step)(void *self, const void *x, const void *y, ptrdiff_t rows, double *loss);
} ds_session;

#endif
