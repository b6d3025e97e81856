/* elementary.c: the functions of elementary.h over an array, y = f(x), so that tests reach them. */
#include "elementary.h"

#include "kernels.h"

typedef vec (*unary_fn)(vec x);

DS_INLINE void map(ptrdiff_t n, const real *x, real *y, unary_fn f) {
  for (ptrdiff_t i = 0; i < n; i += VEC) v_store_part(y + i, f(v_load_part(x + i, n - i)), n - i);
}

#define EXPORT(name) \
  void DS_NAME(elementary_##name)(ptrdiff_t n, const void *x, void *y) { map(n, x, y, v_##name); }
DS_ELEMENTARY(EXPORT)
