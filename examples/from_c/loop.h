/* The hot loop of some program, in plain C: it knows downslope only by its header. */
#include <downslope_session.h>

/* Learns y = f(x) from `rows` rows, one at a time, so often; the mean loss of the last time, or -1
 * if the descent diverges. */
double learn(const ds_session *net, const float *x, const float *y, ptrdiff_t rows, int times);
