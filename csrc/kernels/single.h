/* single.h: what matmul.c uses of single.c. */
#ifndef DS_SINGLE_H
#define DS_SINGLE_H

#include "kernels.h"

void DS_NAME(row_product)(ptrdiff_t inputs, ptrdiff_t outputs, const void *x, const void *weights,
                          ptrdiff_t stride, const void *start, void *z);

#endif
