# Data sets and mini-batches: rows copied next to each other, or used where they lie.

# Up to here float64 holds every integer.
cdef double EXACT_INTEGER = 1 << 53

cdef object _int64 = np.dtype(np.int64)
cdef tuple _floats = (float, np.float32), _numbers = (*_floats, int, np.integer)


cdef union Number:
    float single
    double real
    int64_t label


@cython.final
cdef class Dataset:
    """Rows to train or evaluate on: x (n, inputs), targets (n, columns) or labels (n,), weights
    (n,) or None, of the plan's type.  Holds the arrays; copies nothing."""

    cdef readonly Py_ssize_t rows
    cdef readonly object arrays
    cdef Plan _plan
    cdef ds_rows x, y
    cdef Py_ssize_t target_width    # columns of y, or one label
    cdef const int64_t *labels
    cdef const char *weight
    cdef Number _number             # the target of a single row, if it is no array

    def __init__(self, Plan plan, x, y, weight):
        cdef const int64_t[::1] labels
        self.arrays = (x, y, weight)
        self.x = _matrix(plan, x, &self.rows)
        if y.ndim == 1:
            labels = y
            self.labels, self.target_width = &labels[0], 1
        else:
            self.y, self.target_width = _matrix(plan, y, &self.rows), y.shape[1]
        self.weight = _vector(plan, weight)
        self._plan = plan

    @property
    def has_labels(self) -> bool:
        """Whether the targets are class labels."""
        return self.labels != NULL

    def with_weight(self, weight) -> Dataset:
        """The same rows with other weights, or with None."""
        return Dataset(self._plan, *self.arrays[:2], weight)

    def take(self, rows) -> Dataset:
        """A data set of some rows, copied."""
        return Dataset(self._plan, *(a if a is None else a[rows] for a in self.arrays))

    cdef bint take_number(self, y, bint labels) except -1:
        """A number as the target of the only row, if it fits exactly."""
        cdef double value
        try:
            value = y
        except OverflowError:
            return False
        if not -EXACT_INTEGER <= value <= EXACT_INTEGER:
            return False
        if labels:
            self._number.label = <int64_t>value
            self.labels = &self._number.label
            return not isinstance(y, _floats) and 0 <= value < self._plan.outputs
        if self._plan.float_bits == 32:
            self._number.single = <float>value
        else:
            self._number.real = value
        self.y.data, self.y.stride = &self._number, 1
        return self._plan.outputs == 1

    cdef bint take_labels(self, y) except -1:
        """Class labels, if they are as they should be."""
        cdef ds_rows block
        cdef Py_ssize_t one, i
        if not plain_rows(y, _int64, 1, self.rows, False, &one, &block):
            return False
        self.labels = <const int64_t *>block.data
        for i in range(self.rows):
            if not 0 <= self.labels[i] < self._plan.outputs:
                return False
        return True


def ready_dataset(Plan plan, x, y):
    """A data set of two float arrays (rows, inputs) and (rows, outputs), or None unless the engine
    takes both as they are."""
    return _ready_dataset(plan, x, y, 2, False)


cdef Dataset _ready_dataset(Plan plan, x, y, int axes, bint labels):
    """The same of labels (rows,) too; or with one axis of a row (inputs,) and its target."""
    cdef Dataset data = Dataset.__new__(Dataset)
    cdef Py_ssize_t targets = 0
    cdef bint fits
    data.arrays, data._plan = (x, y, None), plan
    data.target_width = 1 if labels else plan.outputs
    if not ready_rows(x, plan.dtype, axes, plan.inputs, &data.rows, &data.x) or data.rows == 0:
        return None
    if axes == 1 and isinstance(y, _numbers):
        fits = data.take_number(y, labels)
    elif labels:
        fits = data.take_labels(y)
    else:
        fits = (ready_rows(y, plan.dtype, axes, plan.outputs, &targets, &data.y)
                and targets == data.rows)
    return data if fits else None


# Some rows of a data set: in place, or gathered into the workspace.
cdef struct Batch:
    ds_rows x, target
    const char *weight


cdef inline ds_rows _column(const void *data) noexcept nogil:
    """One value a row, contiguous: labels or weights; data may be NULL."""
    cdef ds_rows column
    column.data, column.stride = <void *>data, 1
    return column


cdef Batch _batch(
    Plan plan, Dataset data, const int64_t *order, Py_ssize_t first, Py_ssize_t rows,
    Workspace ws, int threads,
) noexcept nogil:
    """Rows first .. first + rows of the order, gathered; of the data set if there is no order."""
    cdef Batch batch
    cdef bint labels = data.labels != NULL
    cdef ds_rows y = _column(data.labels) if labels else data.y, weight = _column(data.weight)
    cdef Py_ssize_t size = plan.itemsize, y_size = sizeof(int64_t) if labels else size
    if order == NULL:
        batch.x, batch.target = _rows_from(data.x, first, size), _rows_from(y, first, y_size)
        batch.weight = <const char *>_rows_from(weight, first, size).data
        return batch
    order += first
    batch.x, batch.target, batch.weight = ws.batch_x, ws.batch_y, NULL
    _copy_rows(data.x, order, rows, plan.inputs, size, ws.batch_x, threads)
    if labels:
        batch.target = _column(ws.batch_labels)
    _copy_rows(y, order, rows, data.target_width, y_size, batch.target, threads)
    if weight.data != NULL:
        batch.weight = ws.batch_weight
        _copy_rows(weight, order, rows, 1, size, _column(ws.batch_weight), threads)
    return batch


cdef int _total_loss(
    Plan plan, const char *parameters, Dataset data, Loss loss, Workspace ws, int threads,
    Watch *watch, double *total,
) noexcept nogil:
    """The sum of the rows' losses, block after block."""
    cdef Py_ssize_t block, first, rows
    cdef Batch batch
    cdef ds_rows no_delta
    no_delta.data, no_delta.stride = NULL, 0
    total[0] = 0
    for block in range(_blocks(data.rows, ws.rows)):
        first = block * ws.rows
        rows = min(ws.rows, data.rows - first)
        batch = _batch(plan, data, NULL, first, rows, ws, threads)
        if _forward(plan, parameters, batch.x, rows, ws, loss.reads_outputs, threads,
                    watch) != OK:
            return INTERRUPTED
        total[0] += _loss(plan, ws, rows, loss, batch.target, batch.weight, 1, no_delta, threads)
    return OK
