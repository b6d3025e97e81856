/* orthogonal.c: orthonormal columns by the modified Gram-Schmidt process, for initial weights.
 *
 * Numeric contract: plain IEEE arithmetic without contraction, every sum in ascending order of the
 * rows, so that the result is the same to the bit on every machine; no BLAS or LAPACK promises that.
 * One run leaves columns orthogonal to the precision times the condition of the matrix, a second
 * one to the precision alone (Giraud et al., "Rounding error analysis of the classical
 * Gram-Schmidt orthogonalization process", 2005). */
#include <math.h>

#include "downslope.h"

void ds_orthogonalize_column(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t column, double *a,
                             double *work) {
  double square = 0;
  for (ptrdiff_t i = 0; i < rows; i++) {
    const double x = a[i * cols + column];
    square += x * x;
  }
  const double norm = sqrt(square);
  for (ptrdiff_t j = column + 1; j < cols; j++) work[j] = 0;
  for (ptrdiff_t i = 0; i < rows; i++) {
    double *row = a + i * cols;
    const double q = row[column] /= norm;
    for (ptrdiff_t j = column + 1; j < cols; j++) work[j] += q * row[j];
  }
  for (ptrdiff_t i = 0; i < rows; i++) {
    double *row = a + i * cols;
    const double q = row[column];
    for (ptrdiff_t j = column + 1; j < cols; j++) row[j] -= q * work[j];
  }
}
