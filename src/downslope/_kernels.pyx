"""The one extension that links csrc: names and codes, dispatch, random numbers, single kernels.

The functions that begin with `run_` reach one kernel of a chosen instruction set each; they exist
for the tests and the kernel benchmarks.  All take C-contiguous arrays of float32 or float64 and
write into their last array.
"""

import os
from time import perf_counter

import numpy as np

from downslope._memory import aligned_zeros

from cpython.buffer cimport (
    PyBUF_RECORDS, PyBUF_RECORDS_RO, PyBuffer_Release, PyObject_GetBuffer)
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uintptr_t

cdef extern from "downslope.h" nogil:
    """
    #define DS_STRING(name, ...) #name,
    static const char *const activation_names[] = {DS_ACTIVATIONS(DS_STRING)};
    static const char *const loss_names[] = {DS_LOSSES(DS_STRING)};
    static const char *const optimizer_names[] = {DS_OPTIMIZERS(DS_STRING)};
    static const char *const elementary_names[] = {DS_ELEMENTARY(DS_STRING)};
    #define DS_READS(name, reads, shape) DS_READS_##reads == DS_READS_INPUT,
    #define DS_ROWWISE(name, reads, shape) DS_SHAPE_##shape == DS_SHAPE_ROW,
    #define DS_LOSS_OUTPUT(name, output, targets) DS_ACTIVATION_##output,
    #define DS_LOSS_LABELS(name, output, targets) DS_TARGETS_##targets == DS_TARGETS_LABELS,
    #define DS_STATES(name, states) states,
    static const char reads_input[] = {DS_ACTIVATIONS(DS_READS)};
    static const char rowwise[] = {DS_ACTIVATIONS(DS_ROWWISE)};
    static const int loss_outputs[] = {DS_LOSSES(DS_LOSS_OUTPUT)};
    static const char loss_labels[] = {DS_LOSSES(DS_LOSS_LABELS)};
    static const int states[] = {DS_OPTIMIZERS(DS_STATES)};
    """
    const char *const *activation_names
    const char *const *loss_names
    const char *const *optimizer_names
    const char *const *elementary_names
    const char *reads_input
    const char *rowwise
    const int *loss_outputs
    const char *loss_labels
    const int *states

    const char *ds_isa_name(int isa)
    int ds_isa_available(int isa)
    int ds_isa_best()
    const ds_kernels *ds_get_kernels(int isa, int float_bits)
    void ds_gather_rows(
        const ds_gather *gather, Py_ssize_t rows, void *target, Py_ssize_t target_stride)
    void ds_parallel(ds_task_fn task, void *context, int parts)
    int ds_pool_size()
    int downslope_get_num_threads()
    void downslope_set_num_threads(int threads)
    void ds_random_uniform(
        ds_draws_fn make, uint64_t seed, uint64_t stream, Py_ssize_t n, double *out)
    void ds_random_normal(
        ds_draws_fn make, uint64_t seed, uint64_t stream, Py_ssize_t n, double *out)
    void ds_random_integers(
        ds_draws_fn make, uint64_t seed, uint64_t stream, int64_t bound, Py_ssize_t n, int64_t *out)
    void ds_random_permutation(
        ds_draws_fn make, uint64_t seed, uint64_t stream, Py_ssize_t n, int64_t *out)
    void ds_orthogonalize_column(
        Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t column, double *a, double *work)

ctypedef fused real:
    float
    double


cdef bint activation_reads_input(int code) noexcept nogil:
    return reads_input[code]


cdef bint activation_is_rowwise(int code) noexcept nogil:
    return rowwise[code]


cdef int loss_output(int code) noexcept nogil:
    return loss_outputs[code]


cdef bint loss_takes_labels(int code) noexcept nogil:
    return loss_labels[code]


cdef int optimizer_states(int code) noexcept nogil:
    return states[code]


cdef dict _codes(const char *const *names, int count):
    return {names[code].decode(): code for code in range(count)}


#: Codes of the C side by name; the order is that of the lists in downslope.h.
ACTIVATIONS = _codes(activation_names, DS_ACTIVATION_COUNT)
#: Activations of a row as a whole, of which there is no derivative unit by unit.
ROWWISE_ACTIVATIONS = frozenset(name for name, code in ACTIVATIONS.items() if rowwise[code])
LOSSES = _codes(loss_names, DS_LOSS_COUNT)
OPTIMIZERS = _codes(optimizer_names, DS_OPTIMIZER_COUNT)
ELEMENTARY = _codes(elementary_names, DS_ELEMENTARY_COUNT)
ISAS = {ds_isa_name(isa).decode(): isa for isa in range(DS_ISA_COUNT)}
MAX_THREADS = DS_MAX_THREADS
DROPOUT_ONE = DS_DROPOUT_ONE
MAX_STATES = DS_MAX_STATES
OPTIMIZER_STATES = {name: states[code] for name, code in OPTIMIZERS.items()}


def available_isas() -> list[str]:
    """The instruction sets that this build holds and this CPU runs, plainest first."""
    return [name for name, isa in ISAS.items() if ds_isa_available(isa)]


cdef int _choose_isa() except -1:
    """The instruction set of this process: DOWNSLOPE_ISA, or the widest available."""
    name = os.environ.get("DOWNSLOPE_ISA", "")
    if not name:
        return ds_isa_best()
    if name not in available_isas():
        reason = "this CPU or build has no such kernels" if name in ISAS else "no such name"
        raise ImportError(
            f"DOWNSLOPE_ISA={name!r}: {reason}; choose one of {', '.join(available_isas())}, "
            "or unset it to take the widest"
        )
    return ISAS[name]


cdef int _isa = _choose_isa()


def active_isa() -> str:
    """The instruction set whose kernels this process uses."""
    return ds_isa_name(_isa).decode()


cdef const ds_kernels *active_kernels(int float_bits) noexcept nogil:
    return ds_get_kernels(_isa, float_bits)


cdef inline ds_draws_fn _draws() noexcept nogil:
    return active_kernels(32).random_draws


cdef void gather_rows(
    const ds_gather *gather, Py_ssize_t rows, void *target, Py_ssize_t target_stride
) noexcept nogil:
    ds_gather_rows(gather, rows, target, target_stride)


cdef void permutation(uint64_t seed, uint64_t stream, Py_ssize_t n, int64_t *out) noexcept nogil:
    ds_random_permutation(_draws(), seed, stream, n, out)


cdef void parallel(ds_task_fn task, void *context, int parts) noexcept nogil:
    ds_parallel(task, context, parts)


def pool_size() -> int:
    """Threads that the pool holds now, the caller's own not counted."""
    return ds_pool_size()


def get_num_threads() -> int:
    """Threads that calls use unless they say otherwise; 0: not set yet."""
    return downslope_get_num_threads()


def set_num_threads(int threads) -> None:
    downslope_set_num_threads(threads)


# ---- Random numbers: element i of a stream is a function of (seed, stream, i) ----


def random_uniform(uint64_t seed, uint64_t stream, Py_ssize_t n):
    """`n` float64 numbers, uniform in [0, 1)."""
    cdef double[::1] out = np.empty(n)
    if n > 0:
        with nogil:
            ds_random_uniform(_draws(), seed, stream, n, &out[0])
    return out.base


def random_normal(uint64_t seed, uint64_t stream, Py_ssize_t n):
    """`n` float64 numbers, standard normal."""
    cdef double[::1] out = np.empty(n)
    if n > 0:
        with nogil:
            ds_random_normal(_draws(), seed, stream, n, &out[0])
    return out.base


def random_integers(uint64_t seed, uint64_t stream, int64_t bound, int64_t[::1] out):
    """Fill `out` with integers drawn uniformly from 0 .. bound - 1, with replacement."""
    if out.shape[0] > 0:
        with nogil:
            ds_random_integers(_draws(), seed, stream, bound, out.shape[0], &out[0])


def random_permutation(uint64_t seed, uint64_t stream, int64_t[::1] out):
    """Fill `out` with a random order of 0 .. len(out) - 1."""
    if out.shape[0] > 0:
        with nogil:
            ds_random_permutation(_draws(), seed, stream, out.shape[0], &out[0])


def orthogonalize(double[:, ::1] a):
    """Make the columns of `a` (rows, cols), rows >= cols, orthonormal in place: the Q of a = Q R
    with a positive diagonal of R."""
    cdef double[::1] work = np.empty(a.shape[1])
    cdef Py_ssize_t column
    for _ in range(2):  # the second time for what rounding left
        for column in range(a.shape[1]):
            with nogil:
                ds_orthogonalize_column(a.shape[0], a.shape[1], column, &a[0, 0], &work[0])
            PyErr_CheckSignals()


# ---- Arrays ----

#: Elements looked at in one go: bounds the memory of a check, whatever the size of the data.
LOOK_SIZE = 1 << 20

cdef Py_ssize_t _look_size = LOOK_SIZE
cdef object _ndarray = np.ndarray, _float32 = np.dtype(np.float32)


cdef void *_buffer_of(
    object array, int float_bits, bint writable, int ndim, Py_ssize_t *rows, Py_ssize_t *stride
) except? NULL:
    """The first element of a float array with contiguous columns, its rows and their stride."""
    cdef Py_buffer view
    cdef char expected = b"f" if float_bits == 32 else b"d"
    PyObject_GetBuffer(array, &view, PyBUF_RECORDS if writable else PyBUF_RECORDS_RO)
    cdef bint fits = (
        view.ndim == ndim and view.format[0] == expected and view.format[1] == 0
        and (view.shape[ndim - 1] <= 1 or view.strides[ndim - 1] == view.itemsize))
    rows[0], stride[0] = view.shape[0], view.strides[0] // view.itemsize
    cdef void *data = view.buf
    PyBuffer_Release(&view)
    if not fits:
        raise ValueError(
            f"expected {ndim} axes of float{float_bits} with contiguous columns; "
            f"got {array.ndim} axes of {array.dtype}")
    return data


cdef ds_rows rows_of(object array, int float_bits, bint writable, Py_ssize_t *rows) except *:
    cdef ds_rows block
    block.data = _buffer_of(array, float_bits, writable, 2, rows, &block.stride)
    return block


cdef char *vector_of(object array, int float_bits, bint writable) except? NULL:
    cdef Py_ssize_t count, stride
    return <char *>_buffer_of(array, float_bits, writable, 1, &count, &stride)


cdef bint plain_rows(
    object array, object dtype, int axes, Py_ssize_t columns, bint writable, Py_ssize_t *rows,
    ds_rows *block
) except -1:
    cdef Py_buffer view
    if type(array) is not _ndarray or array.dtype is not dtype:
        return False
    PyObject_GetBuffer(array, &view, PyBUF_RECORDS_RO)
    cdef int last = axes - 1
    cdef bint fits = (
        view.ndim == axes and view.shape[last] == columns and not (writable and view.readonly)
        and view.format[1] == 0  # not so where the array is not aligned
        and (columns <= 1 or view.strides[last] == view.itemsize))
    if fits and axes == 1:
        rows[0], block.stride = 1, columns
    elif fits:
        rows[0], block.stride = view.shape[0], view.strides[0] // view.itemsize
        fits = (rows[0] <= 1 or block.stride > 0) and view.strides[0] % view.itemsize == 0
    block.data = view.buf
    PyBuffer_Release(&view)
    return fits


cdef bint ready_rows(
    object array, object dtype, int axes, Py_ssize_t columns, Py_ssize_t *rows, ds_rows *block
) except -1:
    cdef Py_ssize_t bad
    if not (plain_rows(array, dtype, axes, columns, False, rows, block)
            and rows[0] * columns <= _look_size):
        return False
    cdef int float_bits = 32 if dtype is _float32 else 64
    with nogil:
        bad = active_kernels(float_bits).first_not_finite(rows[0], columns, block[0])
    return bad < 0


# ---- Checks ----


def is_ready(array, Py_ssize_t columns, dtype) -> bool:
    """Whether something is an array that the engine takes as it is: (rows, columns) of the float
    type, columns contiguous, rows apart by whole elements, all of it finite, and small enough to be
    looked at in one go."""
    cdef ds_rows block
    cdef Py_ssize_t rows
    return ready_rows(array, dtype, 2, columns, &rows, &block)


cdef int _extent(object array, uintptr_t *begin, uintptr_t *end) except -1:
    """The addresses between which the elements of an array lie."""
    cdef Py_buffer view
    cdef Py_ssize_t span, axis
    PyObject_GetBuffer(array, &view, PyBUF_RECORDS_RO)
    begin[0] = <uintptr_t>view.buf
    end[0] = begin[0] + (view.itemsize if view.len else 0)
    for axis in range(view.ndim):
        span = (view.shape[axis] - 1) * view.strides[axis]
        if view.len and span < 0:
            begin[0] += span
        elif view.len:
            end[0] += span
    PyBuffer_Release(&view)
    return 0


def overlap(a, b) -> bool:
    """Whether the memory of two arrays may overlap."""
    cdef uintptr_t a_begin, a_end, b_begin, b_end
    _extent(a, &a_begin, &a_end)
    _extent(b, &b_begin, &b_end)
    return a_begin < b_end and b_begin < a_end


def first_not_finite(array) -> int:
    """The first row of a matrix (rows, columns) that holds NaN or infinity, or -1.

    `array` is float32 or float64 with contiguous columns.
    """
    cdef Py_ssize_t rows, cols = array.shape[1], row
    cdef int bits = array.itemsize * 8
    cdef ds_rows block = rows_of(array, bits, False, &rows)
    with nogil:
        row = active_kernels(bits).first_not_finite(rows, cols, block)
    return row


def label_range(const int64_t[::1] labels) -> tuple[int, int]:
    """The least and the greatest of some labels, of which there is at least one."""
    cdef int64_t least = labels[0], greatest = labels[0]
    cdef Py_ssize_t i
    with nogil:
        for i in range(labels.shape[0]):
            least = min(least, labels[i])
            greatest = max(greatest, labels[i])
    return least, greatest


# ---- Single kernels, for tests and benchmarks ----


cdef const ds_kernels *_table(str isa, int float_bits) except NULL:
    if isa not in available_isas():
        raise ValueError(f"instruction set {isa!r} is not available: {available_isas()}")
    return ds_get_kernels(ISAS[isa], float_bits)


cdef ds_rows _block(real[:, ::1] array) noexcept:
    cdef ds_rows block
    block.data = &array[0, 0] if array.size else NULL
    block.stride = array.shape[1]
    return block


def kernel_info(str isa, int float_bits) -> dict:
    """What the table says of itself: the variant that its functions were compiled as."""
    cdef const ds_kernels *table = _table(isa, float_bits)
    return {
        "isa": ds_isa_name(table.isa).decode(),
        "float_bits": table.float_bits,
        "vector": table.vector,
        "strip": table.strip,
    }


def fma_peak(str isa, int float_bits) -> float:
    """The core's best rate of fused multiply-adds on this instruction set, in GFLOP/s: the best of
    some runs of a loop that touches no memory."""
    cdef const ds_kernels *table = _table(isa, float_bits)
    cdef double sum_of_chains[8]  # of the widest vector
    cdef Py_ssize_t count
    best = 0.0
    for _ in range(40):
        begun = perf_counter()
        with nogil:
            count = table.fma_chains(50_000, sum_of_chains)
        best = max(best, 2e-9 * count / (perf_counter() - begun))
    return best


def run_elementary(str isa, str name, real[::1] x, real[::1] out):
    """out = name(x)."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    cdef int code = ELEMENTARY[name]
    table.elementary[code](x.shape[0], &x[0] if x.shape[0] else NULL,
                           &out[0] if x.shape[0] else NULL)


def run_activation(str isa, str name, real[:, ::1] z, double alpha, real[:, ::1] out):
    """out = f(z)."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    cdef int code = ACTIVATIONS[name]
    table.activations[code](z.shape[0], z.shape[1], _block(z), _block(out), alpha)


def run_derivative(
    str isa, str name, real[:, ::1] z, real[:, ::1] y, double alpha, real[:, ::1] delta
):
    """delta = delta * f'(z)."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    cdef int code = ACTIVATIONS[name]
    table.derivatives[code](z.shape[0], z.shape[1], _block(z), _block(y), _block(delta), alpha)


def run_loss(
    str isa, str name, real[:, ::1] output, target, weight, double scale,
    const double[::1] parameters, double[::1] row_loss, real[:, ::1] delta,
):
    """row_loss and delta of a loss; `target` (rows, cols) real or (rows,) int64; `parameters` as
    many as the loss has, or more."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    cdef int code = LOSSES[name]
    cdef int64_t[::1] labels
    cdef real[:, ::1] dense
    cdef real[::1] weights
    cdef ds_rows targets
    cdef void *weight_data = NULL
    if loss_labels[code]:
        labels = target
        targets.data, targets.stride = &labels[0], 1
    else:
        dense = target
        targets = _block(dense)
    if weight is not None:
        weights = weight
        weight_data = &weights[0]
    table.losses[code](output.shape[0], output.shape[1], _block(output), targets, weight_data,
                       scale, &parameters[0], &row_loss[0], _block(delta))


def run_update(
    str isa, str name, double[::1] hyper, int64_t step, real[:, ::1] gradient, states,
    real[:, ::1] parameters,
) -> int:
    """One optimiser step; returns 1 if an element overflowed and was left as it was.
    `states`: DS_MAX_STATES arrays, of which the optimiser takes the first ones."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    cdef int code = OPTIMIZERS[name]
    cdef real coefficients[DS_MAX_COEFFICIENTS]
    cdef void *data[DS_MAX_STATES]
    cdef real[:, ::1] state
    for k, state in enumerate(states):
        data[k] = &state[0, 0]
    for n in range(DS_MAX_COEFFICIENTS):
        coefficients[n] = 0
    table.prepares[code](&hyper[0], step, coefficients)
    return table.updates[code](
        gradient.shape[0], gradient.shape[1], _block(gradient), &parameters[0, 0], data,
        parameters.shape[1], coefficients)


def run_penalize(
    str isa, real[:, ::1] parameters, double l1, double l2, real[:, ::1] gradient, double factor
):
    """gradient += factor (2 l2 p + l1 sign(p)); returns the sum of l2 p^2 + l1 |p|."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    return table.penalize(parameters.size, _block(parameters).data, l1, l2,
                          _block(gradient).data if gradient is not None else NULL, factor)


def run_scale(str isa, double factor, real[:, ::1] block):
    """block *= factor."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    table.scale(block.shape[0], block.shape[1], _block(block), factor)


def run_clip(str isa, double limit, real[:, ::1] block):
    """Each element into -limit .. limit."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    table.clip(block.size, _block(block).data, limit)


def run_sum_of_squares(str isa, real[:, ::1] block):
    """The sum of x^2."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    return table.sum_of_squares(block.size, _block(block).data)


def run_limit_columns(str isa, double limit, real[:, ::1] block):
    """Columns with a norm above the limit are scaled down to it."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    table.limit_columns(block.shape[0], block.shape[1], _block(block), limit)


def run_average(str isa, real[:, ::1] values, double momentum, real[:, ::1] means):
    """means = momentum * means + (1 - momentum) * values."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    table.average(values.size, _block(values).data, _block(means).data, momentum)


def run_dropout_mask(
    str isa, uint64_t seed, uint64_t stream, uint64_t first, int dropped, real[::1] out
):
    """out = elements first .. first + len(out) of a dropout mask."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    if out.shape[0]:
        table.dropout_mask(seed, stream, first, out.shape[0], dropped, &out[0])


def run_multiply(str isa, real[:, ::1] x, real[:, ::1] mask, real[:, ::1] out):
    """out = x * mask."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    table.multiply(x.shape[0], x.shape[1], _block(x), _block(mask), _block(out))


def run_add_normal(
    str isa, uint64_t seed, uint64_t stream, uint64_t first, real[:, ::1] x, double deviation,
    real[:, ::1] out,
):
    """out = x + deviation * normal."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    table.add_normal(seed, stream, first, x.shape[0], x.shape[1], _block(x), deviation, _block(out))


def run_column_sums(str isa, real[:, ::1] block, real[::1] out):
    """out = out + the sums of the columns."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    if out.shape[0]:
        table.column_sums(block.shape[0], block.shape[1], _block(block), &out[0], &out[0])


def run_product(
    str isa, real[:, ::1] a, real[:, ::1] b, start, real[:, ::1] out, *, bint transpose_a=False,
    bint transpose_b=False
):
    """out = start + a @ b, either transposed if so said; `start` is None, a row (cols,) or a block
    (rows, cols)."""
    cdef const ds_kernels *table = _table(isa, sizeof(real) * 8)
    cdef ds_product product
    cdef real[:, ::1] first
    cdef real[::1] scratch
    if out.size == 0:
        return
    product.row_begin, product.row_end = 0, out.shape[0]
    product.col_begin, product.col_end = 0, out.shape[1]
    product.depth = b.shape[1] if transpose_b else b.shape[0]
    product.a = _block(a).data
    product.a_row = 1 if transpose_a else a.shape[1]
    product.a_depth = a.shape[1] if transpose_a else 1
    product.b = _block(b).data
    product.b_depth = 1 if transpose_b else b.shape[1]
    product.b_col = b.shape[1] if transpose_b else 1
    product.start, product.start_row = NULL, 0
    if start is not None:
        first = np.atleast_2d(start)
        product.start = &first[0, 0]
        product.start_row = first.shape[1] if start.ndim == 2 else 0
    product.c, product.c_row = &out[0, 0], out.shape[1]
    product.finish, product.context = NULL, NULL
    scratch = aligned_zeros(
        table.product_scratch(out.shape[0], out.shape[1], product.depth), np.asarray(out).dtype)
    product.scratch = &scratch[0]
    with nogil:
        table.product(&product)
