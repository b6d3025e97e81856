#include "loop.h"

double learn(const ds_session *net, const float *x, const float *y, ptrdiff_t rows, int times) {
  double total = 0;
  for (int time = 0; time < times; ++time) {
    total = 0;
    for (ptrdiff_t row = 0; row < rows; ++row) {
      double loss;
      int status = net->step(net->self, x + row * net->inputs, y + row * net->targets, 1, &loss);
      if (status != DS_SESSION_OK) return -1;
      total += loss;
    }
  }
  return total / rows;
}
