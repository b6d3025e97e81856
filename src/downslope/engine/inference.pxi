# Inference: outputs and losses without gradients, from several threads at a time.

# Rows that go through the layers together.
cdef Py_ssize_t INFERENCE_ROWS = 512


@cython.final
cdef class Inference:
    """Forward passes with a network's parameters, a flat array of the plan's type.  A workspace is
    used by one thread at a time; there are as many as were ever at work together."""

    cdef readonly Plan plan
    cdef readonly object parameters
    cdef const char *_parameters
    cdef list _idle

    def __init__(self, Plan plan, parameters):
        self.plan, self.parameters, self._idle = plan, parameters, []
        self._parameters = _vector(plan, parameters)

    cpdef Workspace take(self):
        """An idle workspace, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            return Workspace(self.plan, min(INFERENCE_ROWS, self.plan.block_rows), False)

    def predict(self, x, out, int threads) -> None:
        """out (rows, outputs) = the network's outputs for x (rows, inputs)."""
        cdef Py_ssize_t rows
        cdef ds_rows source = _matrix(self.plan, x, &rows)
        self.run(source, _matrix(self.plan, out, &rows, writable=True), rows, threads)

    def predict_ready(self, x, int axes, out, int threads):
        """The outputs for rows (rows, inputs), or with one axis for a row (inputs,), in `out` or,
        if that is None, a new array; None unless the engine takes both arrays as they are."""
        cdef Plan plan = self.plan
        cdef ds_rows source, target
        cdef Py_ssize_t rows, out_rows
        if not ready_rows(x, plan.dtype, axes, plan.inputs, &rows, &source):
            return None
        if out is None:
            out = _empty(<object>(rows, plan.outputs) if axes == 2 else plan.outputs, plan.dtype)
        if not plain_rows(out, plan.dtype, axes, plan.outputs, True, &out_rows, &target):
            return None
        if out_rows != rows or target.stride != plan.outputs or self.overlaps(target, source, rows):
            return None
        self.run(source, target, rows, threads)
        return out

    cdef bint overlaps(self, ds_rows out, ds_rows x, Py_ssize_t rows) noexcept:
        """Whether `out` (rows, outputs), without gaps, shares memory with x or the parameters."""
        cdef Py_ssize_t size = self.plan.itemsize
        cdef const char *begin = <const char *>out.data
        cdef const char *end = begin + rows * self.plan.outputs * size
        cdef const char *x_begin = <const char *>x.data
        cdef const char *x_end = x_begin + ((rows - 1) * x.stride + self.plan.inputs) * size
        cdef const char *p_end = self._parameters + self.plan.parameters * size
        return begin < x_end and x_begin < end or begin < p_end and self._parameters < end

    cdef int run(self, ds_rows x, ds_rows out, Py_ssize_t n, int threads) except -1:
        """Block after block."""
        cdef Plan plan = self.plan
        cdef Workspace ws = self.take()
        cdef Py_ssize_t block, first, rows, last = plan.n_layers - 1
        cdef ds_rows own = ws.y[last]
        cdef Watch watch = _new_watch()
        cdef int status = OK
        try:
            ws.share(threads)
            with nogil:
                for block in range(_blocks(n, ws.rows)):
                    first = block * ws.rows
                    rows = min(ws.rows, n - first)
                    ws.y[last] = _rows_from(out, first, plan.itemsize)
                    status = _forward(plan, self._parameters, _rows_from(x, first, plan.itemsize),
                                      rows, ws, True, threads, &watch)
                    if status != OK:
                        break
                ws.y[last] = own
        finally:
            self._idle.append(ws)
        return _propagate(status)

    def evaluate(self, Dataset data, Loss loss, int threads) -> float:
        """The sum of the rows' losses."""
        cdef Workspace ws = self.take()
        cdef Watch watch = _new_watch()
        cdef double total = 0
        cdef int status = OK
        try:
            ws.share(threads)
            with nogil:
                status = _total_loss(self.plan, self._parameters, data, loss, ws, threads, &watch,
                                     &total)
        finally:
            self._idle.append(ws)
        _propagate(status)
        return total
