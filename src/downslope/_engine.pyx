"""Forward, backward, update, epoch: the loops over layers, blocks of rows and mini-batches.

Everything here that runs once per step or more often is `noexcept nogil` and allocates nothing.
Python hands over arrays at the top, where their type and shape are checked; below that, a matrix is
a `ds_rows`: a pointer and a row stride, float or double as the plan says, because the kernel table
is the same for both.  Strides and offsets count elements.

One mini-batch (docs/design.md follows it through the files):

    gather -> forward, layer by layer -> loss and delta of the output layer
           -> backward, last layer first: delta of the layer before, then gradient and update

A batch larger than the workspace's block goes through in blocks of rows that add up to the whole
gradient, then the update is made at once; so does any step so long that Ctrl-C could not wait for
its end.  Else the update is the epilogue of the gradient product and the gradient is never stored.
Both give the same bits: a gradient element is one chain over the batch's rows either way.

Threads: each product is cut into parts that compute whole elements (rows of the output, or rows or
columns of the weights), so their number does not show in the result.
"""

import os
import threading

import numpy as np

from downslope._memory import aligned_zeros

from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport INFINITY, isfinite, isinf, sqrt
from libc.stdint cimport int8_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from downslope._kernels cimport (
    DS_ACTIVATION_identity, DS_ACTIVATION_none, DS_MAX_COEFFICIENTS, DS_MAX_HYPER,
    DS_MAX_STATES,
    activation_is_rowwise, activation_reads_input, active_kernels, ds_activation_finish,
    ds_derivative_finish, ds_gather, ds_kernels, ds_product, ds_rows, ds_task_fn, ds_update_finish,
    gather_rows, loss_output, loss_takes_labels, optimizer_states, parallel, permutation,
    ready_rows, rows_of, vector_of)
from downslope.session cimport DS_SESSION, DS_SESSION_ROWS, ds_session

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept
    unsigned long PyThread_get_thread_ident() noexcept nogil

# One product of a block should not take longer than Ctrl-C may wait: at most this many flops
# (15 ms at 100 GFLOP/s), and at most this many rows, which bounds the memory of activations.
cdef double BLOCK_FLOPS = 1.5e9
cdef Py_ssize_t BLOCK_ROWS = 4096
# A step longer than this keeps its gradients until the end, so that it can be given up midway.
cdef double FUSED_FLOPS = 4e9
# Work below this is not worth another thread: waking one costs about a microsecond.
cdef double FLOPS_PER_THREAD = 1e6
# Rough cost of one element of an activation or loss, in flops, for the same decision.
cdef double FLOPS_PER_ELEMENT = 50
# The clock is read once per so much work, and signals are looked for this often (seconds).
cdef double FLOPS_PER_CLOCK = 2e6
cdef double SIGNAL_INTERVAL = 0.02

# A batch of one row leaves the gradients of a network of so many parameters in the first-level
# cache, and updates them all at once.
cdef Py_ssize_t SINGLE_PARAMETERS = 2048

# What ended a run; negative: a Python exception is set.
cdef enum Status:
    INTERRUPTED = -1
    OK = 0
    LOSS_NOT_FINITE = 1
    OVERFLOW = 2


cdef struct Layer:
    Py_ssize_t inputs, outputs
    Py_ssize_t weights      # offset of the (inputs, outputs) block in the parameters
    Py_ssize_t bias         # offset of the bias
    Py_ssize_t bias_count   # outputs, 1 when all units share it, 0 when there is none
    int activation
    bint reads_input        # the derivative needs the net input
    bint rowwise
    double alpha            # the activation's parameter
    double l1, l2           # penalties on the weights
    double max_norm         # of a unit's incoming weights; infinity: none
    double learning_rate    # factor of the optimiser's
    bint trainable
    int dropped             # of DS_DROPOUT_ONE outputs, in training


cdef class Plan:
    """A network as the engine sees it: layers, offsets, codes, kernel table.  Never changed.

    `layers` is a list of (inputs, outputs, weights offset, bias offset, bias count, activation
    code, activation parameter, l1, l2, max norm, factor of the learning rate, whether it is
    trained, dropped outputs), see `_plan.py`.  In training `input_noise` is the deviation of what
    is added to the inputs, of which `input_dropped` are dropped.
    """

    cdef Layer *layers
    cdef const ds_kernels *kernels
    cdef readonly Py_ssize_t n_layers, inputs, outputs, widest, parameters, itemsize, block_rows
    cdef readonly double flops_per_row
    cdef readonly int float_bits
    cdef readonly bint penalized            # a trained layer has a penalty
    cdef readonly Py_ssize_t first_trained  # no layer before it changes
    cdef readonly bint small                # a batch of one row may go by `_row_gradients`
    cdef readonly int input_dropped
    cdef readonly double input_noise

    def __cinit__(
        self, list layers, int float_bits, int input_dropped=0, double input_noise=0
    ):
        cdef Layer *layer
        cdef Py_ssize_t largest = 0
        self.layers = <Layer *>calloc(len(layers), sizeof(Layer))
        if self.layers == NULL:
            raise MemoryError
        self.n_layers, self.float_bits, self.itemsize = len(layers), float_bits, float_bits // 8
        self.kernels = active_kernels(float_bits)
        self.first_trained = len(layers)
        for i, fields in enumerate(layers):
            layer = &self.layers[i]
            (layer.inputs, layer.outputs, layer.weights, layer.bias, layer.bias_count,
             layer.activation, layer.alpha, layer.l1, layer.l2, layer.max_norm,
             layer.learning_rate, layer.trainable, layer.dropped) = fields
            layer.reads_input = activation_reads_input(layer.activation)
            layer.rowwise = activation_is_rowwise(layer.activation)
            self.parameters += layer.inputs * layer.outputs + layer.bias_count
            self.widest = max(self.widest, layer.outputs)
            # forward and gradient, and the delta for all layers but the first
            self.flops_per_row += (4 if i == 0 else 6) * <double>layer.inputs * layer.outputs
            largest = max(largest, layer.inputs * layer.outputs)
            if layer.trainable:
                self.first_trained = min(self.first_trained, i)
                self.penalized |= layer.l1 != 0 or layer.l2 != 0
        self.inputs, self.outputs = self.layers[0].inputs, layer.outputs
        self.input_dropped, self.input_noise = input_dropped, input_noise
        # one update for the whole vector: no layer differs from the others
        self.small = self.parameters <= SINGLE_PARAMETERS and not (input_dropped or input_noise)
        for i in range(self.n_layers):
            layer = &self.layers[i]
            self.small = (self.small and layer.bias_count == layer.outputs and layer.trainable
                          and layer.learning_rate == 1 and layer.l1 == 0 and layer.l2 == 0
                          and layer.dropped == 0)
        self.block_rows = max(32, min(BLOCK_ROWS, <Py_ssize_t>(BLOCK_FLOPS / (2.0 * largest))))

    def __dealloc__(self):
        free(self.layers)


cdef class Workspace:
    """What a pass of at most `rows` rows writes: made once, used by one thread at a time.

    An inference workspace holds two activation blocks in turn; a training one keeps every layer's
    outputs (and net inputs where a derivative reads them), two deltas, one transposed weight matrix
    and the gathered batch; a noisy one, for the steps of a descent, draws dropout masks and noise.
    """

    cdef readonly Plan plan
    cdef readonly Py_ssize_t rows
    cdef readonly bint training, noisy
    cdef ds_rows *z                 # (rows, outputs) net inputs, or NULL data
    cdef ds_rows *y                 # (rows, outputs)
    cdef ds_rows *passed            # (rows, outputs) what the next layer reads: y, or y * mask
    cdef ds_rows *masks             # (rows, outputs), or NULL data
    cdef ds_rows input_mask         # (rows, inputs), or NULL data
    cdef uint64_t seed, step        # what noise is a function of, beside
    cdef Py_ssize_t first_row       # the place in the batch
    cdef char *deltas[2]            # (rows, outputs) of the layer at work and the one before
    cdef char *transposed           # (outputs, inputs) of the layer at work
    cdef char *row                  # (widest,): a shared bias spread out, or a bias gradient
    cdef char *gradients            # (parameters,) of a single row, for small networks
    cdef double *row_loss           # (rows,)
    cdef ds_rows batch_x, batch_y
    cdef int64_t *batch_labels
    cdef char *batch_weight
    cdef list _arrays

    def __cinit__(self, Plan plan, Py_ssize_t rows, bint training, bint noisy=False):
        cdef Py_ssize_t i, largest = 0
        cdef Layer *layer
        self.plan, self.rows, self.training, self._arrays = plan, rows, training, []
        self.noisy = noisy
        self.z = <ds_rows *>calloc(plan.n_layers, sizeof(ds_rows))
        self.y = <ds_rows *>calloc(plan.n_layers, sizeof(ds_rows))
        self.passed = <ds_rows *>calloc(plan.n_layers, sizeof(ds_rows))
        self.masks = <ds_rows *>calloc(plan.n_layers, sizeof(ds_rows))
        if self.z == NULL or self.y == NULL or self.passed == NULL or self.masks == NULL:
            raise MemoryError
        self.row = self.take(plan.widest, plan.itemsize)
        self.row_loss = <double *>self.take(rows, sizeof(double))
        for i in range(plan.n_layers):
            layer = &plan.layers[i]
            largest = max(largest, layer.inputs * layer.outputs)
            if training:
                self.y[i] = self.block(layer.outputs)
                if layer.reads_input:
                    self.z[i] = self.block(layer.outputs)
            else:
                self.y[i] = self.block(plan.widest) if i < 2 else self.y[i - 2]
            self.passed[i] = self.y[i]
            if noisy and layer.dropped > 0:
                self.passed[i] = self.block(layer.outputs)
                self.masks[i] = self.dense(layer.outputs)
        if noisy and plan.input_dropped > 0:
            self.input_mask = self.dense(plan.inputs)
        if training:
            self.deltas[0] = <char *>self.block(plan.widest).data
            self.deltas[1] = <char *>self.block(plan.widest).data
            self.transposed = self.take(largest, plan.itemsize)
            self.gradients = self.take(
                plan.parameters + plan.kernels.vector if plan.small else 0, plan.itemsize)
            self.batch_x = self.block(plan.inputs)
            self.batch_y = self.block(plan.outputs)
            self.batch_labels = <int64_t *>self.take(rows, sizeof(int64_t))
            self.batch_weight = self.take(rows, plan.itemsize)

    def __dealloc__(self):
        free(self.z)
        free(self.y)
        free(self.passed)
        free(self.masks)

    cdef char *take(self, Py_ssize_t count, Py_ssize_t itemsize) except NULL:
        """Memory for `count` items; pages that are never touched cost nothing."""
        cdef char[::1] array = aligned_zeros(max(count, 1) * itemsize, np.int8)
        self._arrays.append(array)
        return &array[0]

    cdef ds_rows block(self, Py_ssize_t width) except *:
        """A block (rows, width).  Rows wider than a cache line are padded to whole lines, and off
        multiples of 2 kB, where the rows of a column would fall on the same few cache sets."""
        cdef ds_rows block
        cdef Py_ssize_t line = 64 // self.plan.itemsize
        block.stride = width
        if width > line:
            block.stride = (width + line - 1) // line * line
            if block.stride * self.plan.itemsize % 2048 == 0:
                block.stride += line
        block.data = self.take(self.rows * block.stride, self.plan.itemsize)
        return block

    cdef ds_rows dense(self, Py_ssize_t width) except *:
        """A block (rows, width) without gaps."""
        cdef ds_rows block
        block.stride, block.data = width, self.take(self.rows * width, self.plan.itemsize)
        return block

    cdef ds_rows delta(self, Py_ssize_t l) noexcept nogil:
        """The delta of layer l, laid out as its outputs are; layers take two blocks in turn."""
        cdef ds_rows block = self.y[l]
        block.data = self.deltas[l % 2]
        return block


# ---- Pointers ----


cdef inline char *_at(const void *base, Py_ssize_t offset, Plan plan) noexcept nogil:
    return <char *>base + offset * plan.itemsize


cdef inline ds_rows _rows_from(
    ds_rows block, Py_ssize_t first, Py_ssize_t itemsize
) noexcept nogil:
    """The rows of a block from `first` on; a block without data stays so."""
    if block.data != NULL:
        block.data = <char *>block.data + first * block.stride * itemsize
    return block


cdef inline Py_ssize_t _blocks(Py_ssize_t rows, Py_ssize_t block_rows) noexcept nogil:
    return (rows + block_rows - 1) // block_rows


# ---- Threads: the part of a task that one thread does ----


cdef inline int _parts(double flops, int threads) noexcept nogil:
    """How many threads a piece of work is worth: the cost model."""
    cdef int worth = <int>min(flops / FLOPS_PER_THREAD, <double>threads)
    return max(worth, 1)


cdef struct ProductTask:
    const ds_kernels *kernels
    ds_product whole
    bint by_columns


cdef void _product_part(void *context, int part, int parts) noexcept nogil:
    cdef const ProductTask *task = <const ProductTask *>context
    cdef ds_product product = task.whole
    cdef Py_ssize_t strip = task.kernels.strip, rows = product.row_end, strips
    if task.by_columns:
        strips = (product.col_end + strip - 1) // strip
        product.col_begin = strips * part // parts * strip
        product.col_end = min(strips * (part + 1) // parts * strip, product.col_end)
    else:
        product.row_begin = rows * part // parts
        product.row_end = rows * (part + 1) // parts
    task.kernels.product(&product)


cdef void _run_product(
    Plan plan, ds_product *product, bint by_columns, int threads
) noexcept nogil:
    """The whole product, cut by rows, or by columns, for as many threads as it is worth."""
    cdef ProductTask task
    cdef int parts = 1
    product.row_begin, product.col_begin = 0, 0
    if threads > 1:
        parts = _parts(2.0 * product.row_end * product.col_end * product.depth, threads)
    if parts == 1:
        plan.kernels.product(product)
        return
    task.kernels, task.whole, task.by_columns = plan.kernels, product[0], by_columns
    parallel(_product_part, &task, parts)


# Work on the rows of a layer's activations: an activation, a derivative, a loss.
cdef struct RowsTask:
    const ds_kernels *kernels
    const Layer *layer
    Py_ssize_t rows, itemsize
    ds_rows z, y, delta
    int loss
    const double *loss_parameters
    ds_rows target
    const char *weight
    double scale
    double *row_loss


cdef void _activation_part(void *context, int part, int parts) noexcept nogil:
    cdef const RowsTask *task = <const RowsTask *>context
    cdef Py_ssize_t first = task.rows * part // parts, end = task.rows * (part + 1) // parts
    cdef ds_rows y = _rows_from(task.y, first, task.itemsize)
    task.kernels.activations[task.layer.activation](
        end - first, task.layer.outputs, y, y, task.layer.alpha)


cdef void _derivative_part(void *context, int part, int parts) noexcept nogil:
    cdef const RowsTask *task = <const RowsTask *>context
    cdef Py_ssize_t first = task.rows * part // parts, end = task.rows * (part + 1) // parts
    task.kernels.derivatives[task.layer.activation](
        end - first, task.layer.outputs, _rows_from(task.z, first, task.itemsize),
        _rows_from(task.y, first, task.itemsize), _rows_from(task.delta, first, task.itemsize),
        task.layer.alpha)


cdef void _loss_part(void *context, int part, int parts) noexcept nogil:
    cdef const RowsTask *task = <const RowsTask *>context
    cdef Py_ssize_t first = task.rows * part // parts, end = task.rows * (part + 1) // parts
    cdef Py_ssize_t target_size = 8 if loss_takes_labels(task.loss) else task.itemsize
    cdef const char *weight = NULL
    if task.weight != NULL:
        weight = task.weight + first * task.itemsize
    task.kernels.losses[task.loss](
        end - first, task.layer.outputs, _rows_from(task.y, first, task.itemsize),
        _rows_from(task.target, first, target_size), weight, task.scale, task.loss_parameters,
        task.row_loss + first, _rows_from(task.delta, first, task.itemsize))


cdef void _run_rows(ds_task_fn part, RowsTask *task, int threads) noexcept nogil:
    cdef int parts = 1
    if threads > 1:
        parts = _parts(FLOPS_PER_ELEMENT * task.rows * task.layer.outputs, threads)
    if parts == 1:
        part(task, 0, 1)
    else:
        parallel(part, task, parts)


cdef RowsTask _rows_task(
    Plan plan, Workspace ws, Py_ssize_t layer, Py_ssize_t rows
) noexcept nogil:
    """A task on the rows of one layer's activations."""
    cdef RowsTask task
    task.kernels, task.layer, task.rows = plan.kernels, &plan.layers[layer], rows
    task.itemsize = plan.itemsize
    task.z, task.y = ws.z[layer], ws.y[layer]
    return task


# ---- Noise of a training step: a function of (seed, step, layer, place in the batch) ----

# Streams of random numbers, in the bits of a stream's number above the step; see `_plan.py`.
cdef uint64_t STREAM_DROPOUT = <uint64_t>4 << 48, STREAM_NOISE = <uint64_t>5 << 48
# A layer's number, 0 for the inputs, stands above the place in the bits of an element's number.
cdef int LAYER_SHIFT = 48


cdef struct NoiseTask:
    const ds_kernels *kernels
    Py_ssize_t rows, cols, itemsize
    ds_rows x, y
    ds_rows mask        # NULL data: normal noise is added
    uint64_t seed, stream, first
    int dropped         # 0: the mask stands already
    double deviation


cdef void _noise_part(void *context, int part, int parts) noexcept nogil:
    cdef const NoiseTask *task = <const NoiseTask *>context
    cdef Py_ssize_t begin = task.rows * part // parts, end = task.rows * (part + 1) // parts
    cdef uint64_t first = task.first + begin * task.cols
    cdef ds_rows x = _rows_from(task.x, begin, task.itemsize)
    cdef ds_rows y = _rows_from(task.y, begin, task.itemsize)
    cdef ds_rows mask = _rows_from(task.mask, begin, task.itemsize)
    if mask.data == NULL:
        task.kernels.add_normal(task.seed, task.stream, first, end - begin, task.cols, x,
                                task.deviation, y)
        return
    if task.dropped > 0:
        task.kernels.dropout_mask(task.seed, task.stream, first, (end - begin) * task.cols,
                                  task.dropped, mask.data)
    task.kernels.multiply(end - begin, task.cols, x, mask, y)


cdef void _run_noise(NoiseTask *task, int threads) noexcept nogil:
    parallel(_noise_part, task, _parts(FLOPS_PER_ELEMENT * task.rows * task.cols, threads))


cdef NoiseTask _noise_task(
    Plan plan, Workspace ws, Py_ssize_t layer, Py_ssize_t rows, Py_ssize_t cols, ds_rows x,
    ds_rows y, ds_rows mask, int dropped,
) noexcept nogil:
    """y = x * mask for the outputs of a layer (-1: the inputs); `dropped` not 0 draws the mask."""
    cdef NoiseTask task
    task.kernels, task.rows, task.cols, task.itemsize = plan.kernels, rows, cols, plan.itemsize
    task.x, task.y, task.mask, task.dropped, task.deviation = x, y, mask, dropped, 0
    task.seed, task.stream = ws.seed, STREAM_DROPOUT + ws.step
    task.first = (<uint64_t>(layer + 1) << LAYER_SHIFT) + ws.first_row * cols
    return task


cdef void _drop(Plan plan, Py_ssize_t l, Py_ssize_t rows, Workspace ws, int threads) noexcept nogil:
    """What layer l passes on: its outputs under a new mask."""
    cdef Layer *layer = &plan.layers[l]
    cdef NoiseTask task = _noise_task(
        plan, ws, l, rows, layer.outputs, ws.y[l], ws.passed[l], ws.masks[l], layer.dropped)
    _run_noise(&task, threads)


cdef void _drop_delta(
    Plan plan, Py_ssize_t l, Py_ssize_t rows, Workspace ws, ds_rows delta, int threads
) noexcept nogil:
    """delta = delta * mask, of layer l."""
    cdef NoiseTask task = _noise_task(
        plan, ws, l, rows, plan.layers[l].outputs, delta, delta, ws.masks[l], 0)
    _run_noise(&task, threads)


cdef ds_rows _noisy_inputs(
    Plan plan, ds_rows x, Py_ssize_t rows, Workspace ws, int threads
) noexcept nogil:
    """The inputs of a batch with noise, then under a mask, in the workspace's own block."""
    cdef ds_rows no_mask
    cdef NoiseTask task
    no_mask.data, no_mask.stride = NULL, 0
    if plan.input_noise > 0:
        task = _noise_task(plan, ws, -1, rows, plan.inputs, x, ws.batch_x, no_mask, 0)
        task.stream, task.deviation = STREAM_NOISE + ws.step, plan.input_noise
        _run_noise(&task, threads)
        x = ws.batch_x
    if plan.input_dropped > 0:
        task = _noise_task(plan, ws, -1, rows, plan.inputs, x, ws.batch_x, ws.input_mask,
                           plan.input_dropped)
        _run_noise(&task, threads)
        x = ws.batch_x
    return x


# ---- Signals: Ctrl-C is seen while the GIL is released ----


cdef struct Watch:
    bint enabled    # only the main thread receives signals
    double work     # flops since the clock was read
    double seen     # when signals were last looked for (seconds)


cdef unsigned long _main_thread = threading.main_thread().ident


def _renew_main_thread():
    """In a forked child the thread that forked is the main one."""
    global _main_thread
    _main_thread = PyThread_get_thread_ident()


os.register_at_fork(after_in_child=_renew_main_thread)


cdef double _now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


cdef Watch _new_watch() noexcept:
    cdef Watch watch
    watch.enabled = PyThread_get_thread_ident() == _main_thread
    watch.work, watch.seen = 0, _now()
    return watch


cdef int _poll(Watch *watch, double flops) noexcept nogil:
    """Look for signals now and then; INTERRUPTED when a handler raised."""
    cdef double now
    cdef int raised
    if not watch.enabled:
        return OK
    watch.work += flops
    if watch.work < FLOPS_PER_CLOCK:
        return OK
    watch.work = 0
    now = _now()
    if now - watch.seen < SIGNAL_INTERVAL:
        return OK
    watch.seen = now
    with gil:
        raised = PyErr_CheckSignals()
    return INTERRUPTED if raised else OK


cdef int _propagate(int status) except -1:
    """Status of a run; raises what `_poll` found."""
    return status   # INTERRUPTED is -1 and the exception is set


# ---- Forward ----


cdef const char *_bias_row(
    Plan plan, const Layer *layer, const char *parameters, Workspace ws
) noexcept nogil:
    """The bias as a row (outputs,), or NULL; a shared bias is spread out in the workspace."""
    cdef const char *bias = _at(parameters, layer.bias, plan)
    cdef Py_ssize_t j
    if layer.bias_count == 0:
        return NULL
    if layer.bias_count == layer.outputs:
        return bias
    for j in range(layer.outputs):
        memcpy(_at(ws.row, j, plan), bias, plan.itemsize)
    return ws.row


cdef void _forward_layer(
    Plan plan, Py_ssize_t l, const char *parameters, ds_rows x, Py_ssize_t rows,
    Workspace ws, bint activate, int threads,
) noexcept nogil:
    """y = f(x W + b) of one layer: x (rows, inputs), y (rows, outputs).  With `activate` false,
    y is the net input."""
    cdef Layer *layer = &plan.layers[l]
    cdef ds_product product
    cdef ds_activation_finish finish
    cdef RowsTask task
    cdef ds_rows out = ws.z[l] if activate and ws.z[l].data != NULL else ws.y[l]
    product.row_end, product.col_end, product.depth = rows, layer.outputs, layer.inputs
    product.a, product.a_row, product.a_depth = x.data, x.stride, 1
    product.b, product.b_depth = _at(parameters, layer.weights, plan), layer.outputs
    product.start, product.start_row = _bias_row(plan, layer, parameters, ws), 0
    product.c, product.c_row = out.data, out.stride
    product.finish, product.context = NULL, NULL
    if activate and layer.activation != DS_ACTIVATION_identity and not layer.rowwise:
        finish.activation = plan.kernels.activations[layer.activation]
        finish.y, finish.alpha = ws.y[l], layer.alpha
        product.finish, product.context = plan.kernels.finish_activation, &finish
    _run_product(plan, &product, False, threads)
    if activate and layer.rowwise:
        task = _rows_task(plan, ws, l, rows)
        _run_rows(_activation_part, &task, threads)


cdef int _forward(
    Plan plan, const char *parameters, ds_rows x, Py_ssize_t rows, Workspace ws,
    bint activate_last, int threads, Watch *watch,
) noexcept nogil:
    """All layers; the outputs are in ws.y of the last."""
    cdef Py_ssize_t l
    for l in range(plan.n_layers):
        _forward_layer(plan, l, parameters, x, rows, ws,
                       activate_last or l < plan.n_layers - 1, threads)
        if ws.masks[l].data != NULL:
            _drop(plan, l, rows, ws, threads)
        x = ws.passed[l]
        if _poll(watch, 2.0 * rows * plan.layers[l].inputs * plan.layers[l].outputs) != OK:
            return INTERRUPTED
    return OK


# ---- Backward ----


# One optimiser step: where its gradient goes and what is done with it.
cdef struct Step:
    bint fused                  # the update is the gradient product's epilogue
    char *parameters
    char *gradients             # unless fused; NULL: not wanted
    Py_ssize_t row_stride       # elements from one row's gradients to the next's; 0: their sum
    bint accumulate             # add to the gradients: a further block of the same batch
    ds_update_finish update     # of the whole parameter vector
    const double *coefficients  # for layer l: DS_MAX_COEFFICIENTS of them from l times that on
    double penalty              # factor of the layers' penalties
    double decay                # what is taken off each weight, relative to it


cdef void _delta(
    Plan plan, Py_ssize_t l, const char *parameters, ds_rows delta, Py_ssize_t rows,
    Workspace ws, ds_rows out, int threads,
) noexcept nogil:
    """out (rows, inputs) = delta (rows, outputs) times the transposed weights of layer l, times
    the derivative of the layer before, if there is one."""
    cdef Layer *layer = &plan.layers[l]
    cdef ds_rows weights, transposed
    cdef ds_product product
    cdef ds_derivative_finish finish
    cdef RowsTask task
    cdef Layer *before = &plan.layers[l - 1] if l > 0 else NULL
    weights.data, weights.stride = _at(parameters, layer.weights, plan), layer.outputs
    transposed.data, transposed.stride = ws.transposed, layer.inputs
    plan.kernels.transpose(layer.inputs, layer.outputs, weights, transposed)
    product.row_end, product.col_end, product.depth = rows, layer.inputs, layer.outputs
    product.a, product.a_row, product.a_depth = delta.data, delta.stride, 1
    product.b, product.b_depth = transposed.data, transposed.stride
    product.start, product.start_row = NULL, 0
    product.c, product.c_row = out.data, out.stride
    product.finish, product.context = NULL, NULL
    if before and before.activation != DS_ACTIVATION_identity and not before.rowwise:
        finish.derivative = plan.kernels.derivatives[before.activation]
        finish.z, finish.y, finish.alpha = ws.z[l - 1], ws.y[l - 1], before.alpha
        product.finish, product.context = plan.kernels.finish_derivative, &finish
    _run_product(plan, &product, False, threads)
    if before and ws.masks[l - 1].data != NULL:
        _drop_delta(plan, l - 1, rows, ws, out, threads)
    if before and before.rowwise:
        task = _rows_task(plan, ws, l - 1, rows)
        task.delta = out
        _run_rows(_derivative_part, &task, threads)


cdef void _weight_gradient(
    Plan plan, const Layer *layer, ds_rows x, ds_rows delta, Py_ssize_t rows, Step *step,
    int threads,
) noexcept nogil:
    """x (rows, inputs) transposed times delta (rows, outputs): stored, or used up by the update."""
    cdef ds_product product
    cdef ds_update_finish finish
    cdef bint by_columns = layer.outputs > layer.inputs
    if layer.outputs == 1:
        # a column of weights lies as a row does: delta transposed times x has the columns of x
        # along the vectors, and the same sums
        product.row_end, product.col_end, product.depth = 1, layer.inputs, rows
        product.a, product.a_row, product.a_depth = delta.data, 1, delta.stride
        product.b, product.b_depth = x.data, x.stride
        by_columns = True
    else:
        product.row_end, product.col_end, product.depth = layer.inputs, layer.outputs, rows
        product.a, product.a_row, product.a_depth = x.data, 1, x.stride
        product.b, product.b_depth = delta.data, delta.stride
    product.start, product.start_row = NULL, layer.outputs
    product.c, product.c_row = NULL, layer.outputs
    product.finish, product.context = NULL, NULL
    if step.fused:
        finish = _weight_update(plan, layer, step, layer.outputs)
        product.finish, product.context = plan.kernels.finish_update, &finish
    else:
        product.c = _at(step.gradients, layer.weights, plan)
        if step.accumulate:
            product.start = product.c
    _run_product(plan, &product, by_columns, threads)


cdef ds_update_finish _update_at(
    Plan plan, const Layer *layer, const Step *step, Py_ssize_t offset, Py_ssize_t stride
) noexcept nogil:
    """The update of the block of a layer's parameters that starts at `offset`."""
    cdef ds_update_finish part = step.update
    cdef int k
    part.parameters, part.stride = _at(part.parameters, offset, plan), stride
    for k in range(DS_MAX_STATES):
        if part.states[k] != NULL:
            part.states[k] = _at(part.states[k], offset, plan)
    if layer.learning_rate != 1:
        part.coefficients = step.coefficients + (layer - plan.layers) * DS_MAX_COEFFICIENTS
    return part


cdef ds_update_finish _weight_update(
    Plan plan, const Layer *layer, const Step *step, Py_ssize_t stride
) noexcept nogil:
    """The update of a layer's weights, with penalties and decay, from which biases are free."""
    cdef ds_update_finish part = _update_at(plan, layer, step, layer.weights, stride)
    part.l1, part.l2 = step.penalty * layer.l1, step.penalty * layer.l2
    part.remainder = 1 - step.decay * layer.learning_rate
    return part


cdef void _bias_gradient(
    Plan plan, const Layer *layer, ds_rows delta, Py_ssize_t rows, Workspace ws, Step *step
) noexcept nogil:
    """The column sums of delta (rows, outputs), or for a shared bias the sum of those."""
    cdef ds_rows sums
    cdef ds_update_finish finish
    cdef char *stored = NULL
    cdef const char *start = NULL
    if layer.bias_count == 0:
        return
    sums.data, sums.stride = ws.row, 1
    if not step.fused:
        stored = _at(step.gradients, layer.bias, plan)
        if step.accumulate:
            start = stored
    if layer.bias_count == layer.outputs:
        if stored != NULL:
            sums.data = stored
        plan.kernels.column_sums(rows, layer.outputs, delta, start, sums.data)
    else:
        # the outputs' sums stand below each other: a column of `outputs` rows
        plan.kernels.column_sums(rows, layer.outputs, delta, NULL, ws.row)
        plan.kernels.column_sums(
            layer.outputs, 1, sums, start, stored if stored != NULL else ws.row)
    if step.fused:
        finish = _update_at(plan, layer, step, layer.bias, layer.bias_count)
        sums.stride = layer.bias_count
        plan.kernels.finish_update(&finish, 0, 0, 1, layer.bias_count, sums)


cdef void _layer_gradients(
    Plan plan, const Layer *layer, ds_rows x, ds_rows delta, Py_ssize_t rows, Workspace ws,
    Step *step, int threads,
) noexcept nogil:
    """Gradients of one layer's weights and bias: of all rows together, or of each row."""
    cdef Step row = step[0]
    cdef Py_ssize_t i
    if step.row_stride == 0:
        _weight_gradient(plan, layer, x, delta, rows, step, threads)
        _bias_gradient(plan, layer, delta, rows, ws, step)
        return
    for i in range(rows):
        row.gradients = _at(step.gradients, i * step.row_stride, plan)
        _weight_gradient(plan, layer, _rows_from(x, i, plan.itemsize),
                         _rows_from(delta, i, plan.itemsize), 1, &row, threads)
        _bias_gradient(plan, layer, _rows_from(delta, i, plan.itemsize), 1, ws, &row)


cdef void _clear_frozen(Plan plan, char *gradients) noexcept nogil:
    """The gradients of layers that are not trained are zero."""
    cdef Py_ssize_t l
    cdef Layer *layer
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        if not layer.trainable:
            memset(_at(gradients, layer.weights, plan), 0,
                   (layer.inputs * layer.outputs + layer.bias_count) * plan.itemsize)


cdef int _backward(
    Plan plan, ds_rows x, Py_ssize_t rows, Workspace ws, Step *step, ds_rows input_gradient,
    int threads, Watch *watch,
) noexcept nogil:
    """From the last layer's delta (in the workspace) to all gradients or updates, and to dE/dx if
    `input_gradient` has data.  The delta of the layer before is taken before the weights change."""
    cdef Py_ssize_t l, last = 0 if input_gradient.data != NULL else plan.first_trained
    cdef ds_rows delta, before, layer_input
    cdef Layer *layer
    cdef double flops
    if not step.fused and not step.accumulate and step.gradients != NULL:
        for l in range(rows if step.row_stride else 1):
            _clear_frozen(plan, _at(step.gradients, l * step.row_stride, plan))
    for l in range(plan.n_layers - 1, last - 1, -1):
        layer = &plan.layers[l]
        layer_input = ws.passed[l - 1] if l > 0 else x
        delta = ws.delta(l)
        before = ws.delta(l - 1) if l > 0 else input_gradient
        if before.data != NULL and (l > last or l == 0):
            _delta(plan, l, step.parameters, delta, rows, ws, before, threads)
        if layer.trainable and (step.fused or step.gradients != NULL):
            _layer_gradients(plan, layer, layer_input, delta, rows, ws, step, threads)
        flops = 4.0 * rows * layer.inputs * layer.outputs
        # a fused step has begun to change the weights: it is seen through
        if not step.fused and _poll(watch, flops) != OK:
            return INTERRUPTED
    return OK


# ---- Loss ----


cdef class Loss:
    """A loss as the engine sees it: a kernel and its parameters.  Never changed."""

    cdef int code
    cdef bint reads_outputs     # else the net input of the last layer
    cdef const double *parameters
    cdef object _held

    def __init__(self, int code, const double[::1] parameters):
        self.code, self._held = code, parameters
        self.reads_outputs = loss_output(code) == DS_ACTIVATION_none
        if parameters.shape[0] > 0:
            self.parameters = &parameters[0]


cdef double _loss(
    Plan plan, Workspace ws, Py_ssize_t rows, Loss loss, ds_rows target, const char *weight,
    double scale, ds_rows delta, int threads,
) noexcept nogil:
    """The sum of the rows' losses, in order; with data in `delta`, it becomes scale times the
    gradient by the last layer's net input."""
    cdef Py_ssize_t i, last = plan.n_layers - 1
    cdef Layer *layer = &plan.layers[last]
    cdef RowsTask task = _rows_task(plan, ws, last, rows)
    cdef double total = 0
    task.loss, task.loss_parameters = loss.code, loss.parameters
    task.target, task.weight, task.scale = target, weight, scale
    task.row_loss, task.delta = ws.row_loss, delta
    _run_rows(_loss_part, &task, threads)
    for i in range(rows):
        total += ws.row_loss[i]
    if (delta.data != NULL and loss.reads_outputs
            and layer.activation != DS_ACTIVATION_identity):
        _run_rows(_derivative_part, &task, threads)
    return total


# ---- Penalties ----


cdef double _penalty(Plan plan, const char *parameters) noexcept nogil:
    """The sum of l1 |w| + l2 w^2 over the weights of all layers that are trained."""
    cdef Py_ssize_t l
    cdef Layer *layer
    cdef double absolute, squares, total = 0
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        if layer.trainable and (layer.l1 != 0 or layer.l2 != 0):
            plan.kernels.power_sums(layer.inputs * layer.outputs,
                                    _at(parameters, layer.weights, plan), &absolute, &squares)
            total += layer.l1 * absolute + layer.l2 * squares
    return total


cdef void _add_penalties(Plan plan, const Step *step) noexcept nogil:
    """The penalties' gradients, to gradients that are kept."""
    cdef Py_ssize_t l
    cdef Layer *layer
    cdef ds_rows gradients, weights
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        if layer.trainable and (layer.l1 != 0 or layer.l2 != 0):
            gradients.data = _at(step.gradients, layer.weights, plan)
            weights.data = _at(step.parameters, layer.weights, plan)
            gradients.stride = weights.stride = layer.inputs * layer.outputs
            plan.kernels.add_penalty(1, layer.inputs * layer.outputs, gradients, weights,
                                     step.penalty * layer.l1, step.penalty * layer.l2)


# ---- From Python's arrays ----


cdef inline ds_rows _matrix(
    Plan plan, object array, Py_ssize_t *rows, bint writable=False
) except *:
    """The rows of a 2-d array of the plan's type whose columns are contiguous."""
    return rows_of(array, plan.float_bits, writable, rows)


cdef inline char *_vector(Plan plan, object array, bint writable=False) except? NULL:
    """The elements of a contiguous 1-d array of the plan's type; NULL for None."""
    return NULL if array is None else vector_of(array, plan.float_bits, writable)


def predict(Plan plan, parameters, x, out, Workspace ws, int threads) -> None:
    """out (rows, outputs) = the network's outputs for x (rows, inputs), block after block."""
    cdef const char *p = _vector(plan, parameters)
    cdef Py_ssize_t block, first, rows, n, last = plan.n_layers - 1
    cdef ds_rows source = _matrix(plan, x, &n), target = _matrix(plan, out, &n, writable=True)
    cdef ds_rows own = ws.y[last]
    cdef Watch watch = _new_watch()
    cdef int status = OK
    with nogil:
        for block in range(_blocks(n, ws.rows)):
            first = block * ws.rows
            rows = min(ws.rows, n - first)
            ws.y[last] = _rows_from(target, first, plan.itemsize)
            status = _forward(plan, p, _rows_from(source, first, plan.itemsize), rows, ws, True,
                              threads, &watch)
            if status != OK:
                break
        ws.y[last] = own
    _propagate(status)


def forward(Plan plan, parameters, x, out, Workspace ws, int threads) -> None:
    """A forward pass that keeps what `backward` needs in a training workspace, x among it."""
    cdef const char *p = _vector(plan, parameters)
    cdef Py_ssize_t n
    cdef ds_rows source = _matrix(plan, x, &n), target = _matrix(plan, out, &n, writable=True)
    cdef Watch watch = _new_watch()
    cdef int status
    with nogil:
        _copy_rows(source, NULL, n, plan.inputs, plan.itemsize, ws.batch_x)
        status = _forward(plan, p, ws.batch_x, n, ws, True, threads, &watch)
        _copy_rows(ws.y[plan.n_layers - 1], NULL, n, plan.outputs, plan.itemsize, target)
    _propagate(status)


def backward(
    Plan plan, parameters, d_out, gradients, d_x, Workspace ws, int threads, bint accumulate
) -> None:
    """From dE/doutputs (rows, outputs) of the last `forward` to dE/dx and the gradients: their sum
    over the rows (parameters,), those of each row (rows, parameters), or None."""
    cdef Py_ssize_t n
    cdef ds_rows source = _matrix(plan, d_out, &n), target = _matrix(plan, d_x, &n, writable=True)
    cdef ds_rows rows_of_gradients
    cdef const char *p = _vector(plan, parameters)
    cdef char *to
    cdef Py_ssize_t row_stride = 0
    cdef Watch watch = _new_watch()
    cdef int status
    if gradients is not None and gradients.ndim == 2:
        rows_of_gradients = _matrix(plan, gradients, &n, writable=True)
        to, row_stride = <char *>rows_of_gradients.data, rows_of_gradients.stride
    else:
        to = _vector(plan, gradients, writable=True)
    with nogil:
        status = _backward_from(plan, p, source, n, to, row_stride, accumulate, target, ws,
                                threads, &watch)
    _propagate(status)


cdef int _backward_from(
    Plan plan, const char *parameters, ds_rows d_out, Py_ssize_t rows, char *gradients,
    Py_ssize_t row_stride, bint accumulate, ds_rows d_x, Workspace ws, int threads, Watch *watch,
) noexcept nogil:
    """From dE/doutputs of the forward pass in the workspace to the gradients and dE/dx."""
    cdef Py_ssize_t last = plan.n_layers - 1
    cdef Step step
    cdef RowsTask task
    step.fused, step.accumulate, step.row_stride = False, accumulate, row_stride
    step.parameters, step.gradients = <char *>parameters, gradients
    _copy_rows(d_out, NULL, rows, plan.outputs, plan.itemsize, ws.delta(last))
    if plan.layers[last].activation != DS_ACTIVATION_identity:
        task = _rows_task(plan, ws, last, rows)
        task.delta = ws.delta(last)
        _run_rows(_derivative_part, &task, threads)
    return _backward(plan, ws.batch_x, rows, ws, &step, d_x, threads, watch)


# ---- Mini-batches ----


cdef void _copy_rows(
    ds_rows source, const int64_t *order, Py_ssize_t rows, Py_ssize_t width, Py_ssize_t itemsize,
    ds_rows target,
) noexcept nogil:
    """Rows order[0], order[1], ... of the source (order NULL: in sequence), one below the other."""
    cdef ds_gather gather
    gather.source, gather.order = source.data, order
    gather.source_stride, gather.row_bytes = source.stride * itemsize, width * itemsize
    gather_rows(&gather, rows, target.data, target.stride * itemsize)


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


def ready_dataset(Plan plan, x, y):
    """A data set of two float arrays if the engine takes both as they are, or None."""
    cdef Dataset data = Dataset.__new__(Dataset)
    cdef Py_ssize_t targets = 0
    if not (ready_rows(x, plan.float_bits, plan.inputs, &data.rows, &data.x)
            and ready_rows(y, plan.float_bits, plan.outputs, &targets, &data.y)
            and targets == data.rows > 0):
        return None
    data.arrays, data._plan, data.target_width = (x, y, None), plan, plan.outputs
    return data


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
    Workspace ws,
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
    _copy_rows(data.x, order, rows, plan.inputs, size, ws.batch_x)
    if labels:
        batch.target = _column(ws.batch_labels)
    _copy_rows(y, order, rows, data.target_width, y_size, batch.target)
    if weight.data != NULL:
        batch.weight = ws.batch_weight
        _copy_rows(weight, order, rows, 1, size, _column(ws.batch_weight))
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
        batch = _batch(plan, data, NULL, first, rows, ws)
        if _forward(plan, parameters, batch.x, rows, ws, loss.reads_outputs, threads,
                    watch) != OK:
            return INTERRUPTED
        total[0] += _loss(plan, ws, rows, loss, batch.target, batch.weight, 1, no_delta, threads)
    return OK


def evaluate(Plan plan, parameters, Dataset data, Loss loss, Workspace ws, int threads) -> float:
    """The sum of the rows' losses."""
    cdef const char *p = _vector(plan, parameters)
    cdef Watch watch = _new_watch()
    cdef double total = 0
    cdef int status
    with nogil:
        status = _total_loss(plan, p, data, loss, ws, threads, &watch, &total)
    _propagate(status)
    return total


# ---- A single row ----


cdef double _row_gradients(
    Plan plan, const char *parameters, Dataset data, Loss loss, Py_ssize_t row, Workspace ws
) noexcept nogil:
    """The loss of one row, and all gradients, in ws.gradients laid out as the parameters are,
    unless the loss is not finite.  The same bits as a batch of one gives on the long way, without
    its blocks, strips, transposed copies and gathered rows."""
    cdef const ds_kernels *kernels = plan.kernels
    cdef Py_ssize_t l, last = plan.n_layers - 1
    cdef Layer *layer
    cdef Batch batch = _batch(plan, data, NULL, row, 1, ws)
    cdef ds_rows x = batch.x, z, delta, before
    cdef bint activate
    cdef double row_loss
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        activate = layer.activation != DS_ACTIVATION_identity and (
            l < last or loss.reads_outputs)
        z = ws.z[l] if activate and layer.reads_input else ws.y[l]
        kernels.row_product(layer.inputs, layer.outputs, x.data,
                            _at(parameters, layer.weights, plan), layer.outputs,
                            _at(parameters, layer.bias, plan), z.data)
        if activate:
            kernels.activations[layer.activation](1, layer.outputs, z, ws.y[l], layer.alpha)
        x = ws.y[l]

    delta = ws.delta(last)
    kernels.losses[loss.code](1, plan.outputs, x, batch.target, batch.weight, 1, loss.parameters,
                              &row_loss, delta)
    if not isfinite(row_loss):
        return row_loss
    if activate:
        kernels.derivatives[layer.activation](1, layer.outputs, ws.z[last], x, delta, layer.alpha)

    for l in range(last, -1, -1):
        layer = &plan.layers[l]
        delta = ws.delta(l)
        x = ws.y[l - 1] if l > 0 else batch.x
        kernels.row_gradient(layer.inputs, layer.outputs, x.data, delta.data,
                             _at(ws.gradients, layer.weights, plan))
        if l == 0:
            break
        before = ws.delta(l - 1)
        kernels.row_delta(layer.inputs, layer.outputs, delta.data,
                          _at(parameters, layer.weights, plan), before.data)
        layer = &plan.layers[l - 1]
        if layer.activation != DS_ACTIVATION_identity:
            kernels.derivatives[layer.activation](
                1, layer.outputs, ws.z[l - 1], ws.y[l - 1], before, layer.alpha)
    return row_loss


# ---- Descent ----


PHASES = ("gather", "forward", "loss", "delta", "gradient", "update")


cdef double _lap(double *phase, double since) noexcept nogil:
    """Add the time since then to a phase; returns the time now."""
    cdef double now = _now()
    phase[0] += now - since
    return now


cdef class Run:
    """How a member of an ensemble is trained: the settings of `Descent.run`.

    `order` (rows,) is the array that each epoch's order is drawn into, by `seed` and `stream` + the
    epoch; None: rows in sequence.  A run ends after its epoch when `cancelled` (1,) is not zero.
    """

    cdef int64_t[::1] order
    cdef const int8_t[::1] cancelled
    cdef uint64_t seed, stream
    cdef Py_ssize_t batch_rows, patience
    cdef bint stops, monitors_validation
    cdef double min_delta

    def __init__(self, order, cancelled, seed, stream, batch_rows):
        self.order, self.cancelled, self.seed, self.stream = order, cancelled, seed, stream
        self.batch_rows = batch_rows

    def stop_early(self, monitors_validation, patience, min_delta) -> None:
        """Stop as `EarlyStopping` does."""
        self.stops, self.monitors_validation = True, monitors_validation
        self.patience, self.min_delta = patience, min_delta


cdef class Descent:
    """Gradient descent on a network's parameters: an optimiser and its state.

    `parameters` is a flat array of the plan's type, `state` is (states, parameters); `hyper` begins
    with the learning rate.  `steps` counts the updates made; `seed` and it decide the noise.

    Attributes
    ----------
    weight_decay : float
        What each step takes off the weights, relative to them and to the learning rate.
    clip_value, clip_norm : float
        Largest magnitude of an element, and largest norm of all, of a gradient; infinity: any.
    penalties_per_row : bool
        Whether the layers' penalties are divided by the number of rows of a step.
    """

    cdef readonly Plan plan
    cdef readonly object parameters, gradients, state, average
    cdef readonly int optimizer
    cdef public int64_t steps
    cdef public uint64_t seed
    cdef public double weight_decay, clip_value, clip_norm
    cdef public bint penalties_per_row
    cdef Workspace ws
    cdef char *_parameters
    cdef char *_gradients
    cdef char *_average
    cdef char *_states[DS_MAX_STATES]
    cdef double _average_momentum
    cdef int64_t _overwrite_steps
    cdef double _hyper[DS_MAX_HYPER]
    # For the step under way; room for either float type, and for each layer with a rate of its own.
    cdef double _coefficients[DS_MAX_COEFFICIENTS]
    cdef double[::1] _layer_coefficients
    cdef int _overflow

    def __init__(self, Plan plan, parameters, state, int optimizer, hyper, uint64_t seed):
        cdef Py_ssize_t i
        self.seed = seed
        self.plan, self.parameters, self.state = plan, parameters, state
        self.optimizer = optimizer
        self.clip_value = self.clip_norm = INFINITY
        self._parameters = _vector(plan, parameters, writable=True)
        for i in range(optimizer_states(optimizer)):
            self._states[i] = _vector(plan, state[i], writable=True)
        for i in range(DS_MAX_COEFFICIENTS):
            self._coefficients[i] = 0
        for i in range(len(hyper)):
            self._hyper[i] = hyper[i]
        self._layer_coefficients = np.zeros(plan.n_layers * DS_MAX_COEFFICIENTS)

    @property
    def learning_rate(self) -> float:
        return self._hyper[0]

    @learning_rate.setter
    def learning_rate(self, double value):
        self._hyper[0] = value

    def needs_gradients(self, Py_ssize_t batch_rows) -> bool:
        """Whether steps of so many rows keep their gradients until the end."""
        return not self.is_fused(batch_rows)

    def keep_gradients(self, gradients) -> None:
        """The flat array to keep gradients in."""
        self.gradients = gradients
        self._gradients = _vector(self.plan, gradients, writable=True)

    def keep_average(self, average, double momentum, int64_t overwrite_steps) -> None:
        """Keep a running mean of the parameters in a flat array, beginning with those before the
        first step, and put it into the parameters after each `overwrite_steps` steps (0: never)."""
        self.average = average
        self._average = _vector(self.plan, average, writable=True)
        self._average_momentum, self._overwrite_steps = momentum, overwrite_steps

    def reserve(self, Py_ssize_t batch_rows) -> None:
        """Make the workspace for batches of so many rows."""
        cdef Py_ssize_t rows = min(batch_rows, self.plan.block_rows)
        if self.ws is None or self.ws.rows < rows:
            self.ws = Workspace(self.plan, rows, True, True)

    cdef bint is_fused(self, Py_ssize_t rows) noexcept nogil:
        """Whether a step's update is the gradient's epilogue; clipping wants the whole of it."""
        return (isinf(self.clip_value) and isinf(self.clip_norm)
                and rows <= self.plan.block_rows and rows * self.plan.flops_per_row <= FUSED_FLOPS)

    cdef bint is_single(self) noexcept nogil:
        """Whether a step of one row goes the short way, all of it."""
        return self.plan.small and self.weight_decay == 0 and self.is_fused(1)

    cdef void prepare(self, double factor, double *coefficients) noexcept nogil:
        """The coefficients of the coming step, at the learning rate times `factor`."""
        cdef double hyper[DS_MAX_HYPER]
        memcpy(hyper, self._hyper, sizeof(hyper))
        hyper[0] *= factor
        self.plan.kernels.prepares[self.optimizer](hyper, self.steps + 1, coefficients)

    cdef Step begin(self, bint fused, Py_ssize_t rows) noexcept nogil:
        """A step from so many rows on the whole parameter vector, with the coefficients of its
        number."""
        cdef Step step
        cdef Py_ssize_t l
        cdef int k
        if self.steps == 0 and self._average != NULL:
            memcpy(self._average, self._parameters, self.plan.parameters * self.plan.itemsize)
        step.fused, step.accumulate, step.row_stride = fused, False, 0
        step.parameters, step.gradients = self._parameters, self._gradients
        step.penalty = 1.0 / rows if self.penalties_per_row else 1.0
        step.decay = self._hyper[0] * self.weight_decay
        step.update.update = self.plan.kernels.updates[self.optimizer]
        step.update.parameters = self._parameters
        for k in range(DS_MAX_STATES):
            step.update.states[k] = self._states[k]
        step.update.stride = self.plan.parameters
        step.update.l1 = step.update.l2 = 0
        step.update.remainder = 1
        self.prepare(1, self._coefficients)
        step.update.coefficients = self._coefficients
        step.coefficients = &self._layer_coefficients[0]
        for l in range(self.plan.n_layers):
            if self.plan.layers[l].learning_rate != 1:
                self.prepare(self.plan.layers[l].learning_rate,
                             &self._layer_coefficients[l * DS_MAX_COEFFICIENTS])
        self._overflow = 0
        step.update.overflow = &self._overflow
        return step

    cdef int finish(self, Step *step) noexcept nogil:
        """Make the update unless it was fused, and what follows each; count the step."""
        cdef Py_ssize_t l, n = self.plan.parameters
        cdef Layer *layer
        cdef ds_rows weights
        if not step.fused:
            self.clip()
            self.update_layers(step)
        for l in range(self.plan.n_layers):
            layer = &self.plan.layers[l]
            if layer.trainable and not isinf(layer.max_norm):
                weights.data = _at(self._parameters, layer.weights, self.plan)
                weights.stride = layer.outputs
                self.plan.kernels.limit_columns(
                    layer.inputs, layer.outputs, weights, layer.max_norm)
        self.steps += 1
        if self._average != NULL:
            self.plan.kernels.average(n, self._parameters, self._average, self._average_momentum)
            if self._overwrite_steps and self.steps % self._overwrite_steps == 0:
                memcpy(self._parameters, self._average, n * self.plan.itemsize)
        return OVERFLOW if self._overflow else OK

    cdef void clip(self) noexcept nogil:
        """First each element of the gradients, then the norm of all; a norm that is not finite is
        left to the update, which finds the elements."""
        cdef ds_rows gradients
        cdef double absolute, squares, norm
        if not isinf(self.clip_value):
            self.plan.kernels.clip(self.plan.parameters, self._gradients, self.clip_value)
        if not isinf(self.clip_norm):
            self.plan.kernels.power_sums(
                self.plan.parameters, self._gradients, &absolute, &squares)
            norm = sqrt(squares)
            if isfinite(norm) and norm > self.clip_norm:
                gradients.data, gradients.stride = self._gradients, self.plan.parameters
                self.plan.kernels.scale(
                    1, self.plan.parameters, gradients, self.clip_norm / norm)

    cdef void update_layers(self, Step *step) noexcept nogil:
        """The update from gradients that were kept; the penalties are in them."""
        cdef Py_ssize_t l, n
        cdef Layer *layer
        cdef ds_rows gradients
        cdef ds_update_finish finish
        step.penalty = 0
        for l in range(self.plan.n_layers):
            layer = &self.plan.layers[l]
            if not layer.trainable:
                continue
            n = gradients.stride = layer.inputs * layer.outputs
            gradients.data = _at(self._gradients, layer.weights, self.plan)
            finish = _weight_update(self.plan, layer, step, n)
            self.plan.kernels.finish_update(&finish, 0, 0, 1, n, gradients)
            gradients.data = _at(self._gradients, layer.bias, self.plan)
            gradients.stride = layer.bias_count
            finish = _update_at(self.plan, layer, step, layer.bias, layer.bias_count)
            self.plan.kernels.finish_update(&finish, 0, 0, 1, layer.bias_count, gradients)

    cdef int step(
        self, Dataset data, Loss loss, const int64_t *order, Py_ssize_t first, Py_ssize_t rows,
        int threads, Watch *watch, double *total,
    ) noexcept nogil:
        """One mini-batch: rows first .. first + rows of the order.  Adds its losses to `total`."""
        cdef Step step
        cdef int status
        if rows == 1 and self.is_single():
            if _poll(watch, self.plan.flops_per_row) != OK:
                return INTERRUPTED
            return self.single_step(data, loss, order[first] if order != NULL else first, total)
        step = self.begin(self.is_fused(rows), rows)
        status = self.accumulate(
            data, loss, order, first, rows, rows, &step, threads, watch, total)
        return self.finish(&step) if status == OK else status

    cdef int accumulate(
        self, Dataset data, Loss loss, const int64_t *order, Py_ssize_t first, Py_ssize_t rows,
        Py_ssize_t batch_rows, Step *step, int threads, Watch *watch, double *total,
    ) noexcept nogil:
        """The gradients of some rows of one mini-batch of `batch_rows`, block by block; used up on
        the way by a fused step."""
        cdef Py_ssize_t blocks = _blocks(rows, self.ws.rows), b, begin, count
        cdef bint activate = loss.reads_outputs
        cdef Batch batch
        cdef ds_rows no_input_gradient
        cdef double block_loss
        no_input_gradient.data, no_input_gradient.stride = NULL, 0
        self.ws.seed, self.ws.step = self.seed, self.steps
        for b in range(blocks):
            begin = rows * b // blocks
            count = rows * (b + 1) // blocks - begin
            batch = _batch(self.plan, data, order, first + begin, count, self.ws)
            self.ws.first_row = begin
            batch.x = _noisy_inputs(self.plan, batch.x, count, self.ws, threads)
            if _forward(self.plan, self._parameters, batch.x, count, self.ws, activate, threads,
                        watch) != OK:
                return INTERRUPTED
            block_loss = _loss(self.plan, self.ws, count, loss, batch.target, batch.weight,
                               1.0 / batch_rows, self.ws.delta(self.plan.n_layers - 1), threads)
            if not isfinite(block_loss):
                return LOSS_NOT_FINITE
            if b == 0 and self.plan.penalized:
                block_loss += batch_rows * step.penalty * _penalty(self.plan, self._parameters)
            total[0] += block_loss
            step.accumulate = step.accumulate or b > 0
            if _backward(self.plan, batch.x, count, self.ws, step, no_input_gradient, threads,
                         watch) != OK:
                return INTERRUPTED
        if not step.fused and self.plan.penalized:
            _add_penalties(self.plan, step)
        return OK

    cdef int single_step(
        self, Dataset data, Loss loss, Py_ssize_t row, double *total
    ) noexcept nogil:
        """A step on one row of a small network."""
        cdef ds_rows gradients
        cdef Step step = self.begin(True, 1)
        cdef double row_loss = _row_gradients(self.plan, self._parameters, data, loss, row, self.ws)
        if not isfinite(row_loss):
            return LOSS_NOT_FINITE
        total[0] += row_loss
        gradients.data, gradients.stride = self.ws.gradients, self.plan.parameters
        self.plan.kernels.finish_update(&step.update, 0, 0, 1, self.plan.parameters, gradients)
        return self.finish(&step)

    cdef int steps_on(
        self, Dataset data, Loss loss, const int64_t *order, Py_ssize_t n, Py_ssize_t batch_rows,
        int threads, const double *learning_rates, double deadline, Watch *watch,
        Py_ssize_t *batch, double *total,
    ) noexcept nogil:
        """A step for each `batch_rows` of n rows in their order, from batch number `batch` on and
        until the deadline.  Moves `batch` on, and adds the losses to `total`."""
        cdef Py_ssize_t first, begun = batch[0]
        cdef int status
        while batch[0] < _blocks(n, batch_rows):
            first = batch[0] * batch_rows
            if learning_rates != NULL:
                self._hyper[0] = learning_rates[batch[0] - begun]
            status = self.step(data, loss, order, first, min(batch_rows, n - first), threads, watch,
                               total)
            if status != OK:
                return status
            batch[0] += 1
            if deadline < INFINITY and _now() >= deadline:
                break
        return OK

    cdef int ready(self, Py_ssize_t batch_rows) except -1:
        """Make ready for steps of so many rows."""
        if self._gradients == NULL and self.needs_gradients(batch_rows):
            raise RuntimeError("steps of this size keep their gradients: call keep_gradients")
        self.reserve(batch_rows)
        return 0

    def train(
        self, Dataset data, Loss loss, const int64_t[::1] order, Py_ssize_t batch_rows, int threads,
        Py_ssize_t batch=0, double total=0, double seconds=INFINITY,
        const double[::1] learning_rates=None,
    ) -> tuple[int, float, int]:
        """An epoch from batch number `batch` on: a step for each `batch_rows` rows of the order
        (None: all rows in sequence), until `seconds` have passed, at its learning rate if
        `learning_rates` has one for each of these batches.  `total` is the sum of the rows'
        losses so far, with the penalties as often as there are rows.  Returns a status, that sum
        and the number of the batch to go on with."""
        cdef const int64_t *rows_in_order = &order[0] if order is not None else NULL
        cdef const double *rates = &learning_rates[0] if learning_rates is not None else NULL
        cdef Py_ssize_t n = order.shape[0] if order is not None else data.rows
        cdef Watch watch = _new_watch()
        cdef double deadline = _now() + seconds
        cdef int status
        self.ready(batch_rows)
        with nogil:
            status = self.steps_on(data, loss, rows_in_order, n, batch_rows, threads, rates,
                                   deadline, &watch, &batch, &total)
        return _propagate(status), total, batch

    def run(
        self, Run run, Dataset data, Loss loss, Dataset validation, Loss validation_loss,
        Workspace ws, double[:, ::1] losses, best,
    ) -> tuple[int, int]:
        """All epochs of a run on the calling thread, with no Python in between: the same as
        `Trainer.fit` with the same settings, to the bit.

        losses (2, epochs): of training and of validation (left alone without validation data).
        best (parameters,): for the parameters of the best epoch, or None.
        Returns a status and the number of epochs completed."""
        cdef char *kept = _vector(self.plan, best, writable=True)
        cdef Py_ssize_t size = self.plan.parameters * self.plan.itemsize
        cdef Py_ssize_t epoch = 0, best_epoch = -1, batch
        cdef double least = INFINITY, value, total
        cdef int64_t *order = &run.order[0] if run.order is not None else NULL
        cdef Watch watch = _new_watch()
        cdef int status = OK
        self.ready(run.batch_rows)
        with nogil:
            while epoch < losses.shape[1] and not run.cancelled[0]:
                if order != NULL:
                    permutation(run.seed, run.stream + epoch, data.rows, order)
                batch, total = 0, 0
                status = self.steps_on(data, loss, order, data.rows, run.batch_rows, 1, NULL,
                                       INFINITY, &watch, &batch, &total)
                if status != OK:
                    break
                value = losses[0, epoch] = total / data.rows
                if validation is not None:
                    status = _total_loss(self.plan, self._parameters, validation, validation_loss,
                                         ws, 1, &watch, &total)
                    if status != OK:
                        break
                    losses[1, epoch] = total / validation.rows
                    if run.monitors_validation:
                        value = losses[1, epoch]
                epoch += 1
                if not run.stops:
                    continue
                if best_epoch < 0 or value < least - run.min_delta:
                    least, best_epoch = value, epoch
                    if kept != NULL:
                        memcpy(kept, self._parameters, size)
                elif epoch - best_epoch >= run.patience:
                    break
        return _propagate(status), epoch

    def time_phases(
        self, Dataset data, Loss loss, const int64_t[::1] order, Py_ssize_t batch_rows, int threads,
        int steps,
    ) -> dict[str, float]:
        """Seconds of a step on the first `batch_rows` rows of the order, by phase: the mean over so
        many steps, with a clock between the phases.  The gradient is stored and the update made
        after it, because inside a product no clock can tell them apart: call keep_gradients
        before."""
        cdef Py_ssize_t last = self.plan.n_layers - 1, blocks, b, begin, count, l, _
        cdef bint activate = loss.reads_outputs
        cdef double clock
        cdef double[6] phases
        cdef Watch watch = _new_watch()
        cdef Batch batch
        cdef Step step
        if self._gradients == NULL:
            raise RuntimeError("phases keep their gradients: call keep_gradients")
        watch.enabled = False
        phases[:] = [0, 0, 0, 0, 0, 0]
        self.reserve(batch_rows)
        blocks = _blocks(batch_rows, self.ws.rows)
        with nogil:
            for _ in range(steps):
                step = self.begin(False, batch_rows)
                for b in range(blocks):
                    begin = batch_rows * b // blocks
                    count = batch_rows * (b + 1) // blocks - begin
                    step.accumulate = b > 0
                    clock = _now()
                    batch = _batch(self.plan, data, &order[0], begin, count, self.ws)
                    clock = _lap(&phases[0], clock)
                    _forward(self.plan, self._parameters, batch.x, count, self.ws, activate,
                             threads, &watch)
                    clock = _lap(&phases[1], clock)
                    _loss(self.plan, self.ws, count, loss, batch.target, batch.weight,
                          1.0 / batch_rows, self.ws.delta(last), threads)
                    clock = _lap(&phases[2], clock)
                    for l in range(last, -1, -1):
                        if l > 0:
                            _delta(self.plan, l, self._parameters, self.ws.delta(l), count,
                                   self.ws, self.ws.delta(l - 1), threads)
                            clock = _lap(&phases[3], clock)
                        _weight_gradient(
                            self.plan, &self.plan.layers[l], self.ws.y[l - 1] if l > 0 else batch.x,
                            self.ws.delta(l), count, &step, threads)
                        _bias_gradient(self.plan, &self.plan.layers[l], self.ws.delta(l), count,
                                       self.ws, &step)
                        clock = _lap(&phases[4], clock)
                self.finish(&step)
                clock = _lap(&phases[5], clock)
        return {name: phases[i] / steps for i, name in enumerate(PHASES)}

    def compute_gradients(self, Dataset data, Loss loss, int threads) -> tuple[int, float]:
        """The gradients of all rows as one batch, kept; returns as `train` does."""
        return self.compute_part(data, loss, None, 0, data.rows, data.rows, False, True, threads)

    def compute_part(
        self, Dataset data, Loss loss, const int64_t[::1] order, Py_ssize_t first, Py_ssize_t rows,
        Py_ssize_t batch_rows, bint accumulate, bint penalize, int threads,
    ) -> tuple[int, float]:
        """What rows first .. first + rows of the order give to the gradients of a batch of
        `batch_rows`, kept, or added to those that are there; with `penalize` the layers'
        penalties too.  Returns as `train` does."""
        cdef const int64_t *rows_in_order = &order[0] if order is not None else NULL
        cdef Watch watch = _new_watch()
        cdef Step step = self.begin(False, batch_rows)
        cdef double total = 0
        cdef int status
        step.accumulate = accumulate
        if not penalize:
            step.penalty = 0
        self.reserve(rows)
        with nogil:
            status = self.accumulate(data, loss, rows_in_order, first, rows, batch_rows, &step,
                                     threads, &watch, &total)
        return _propagate(status), total

    def compute_row_gradients(self, Dataset data, Loss loss, gradients, int threads) -> float:
        """The gradients of each row's own loss, into (rows, parameters); the sum of the losses."""
        cdef Py_ssize_t last = self.plan.n_layers - 1, first = 0, rows = data.rows
        cdef ds_rows target = _matrix(self.plan, gradients, &rows, writable=True), none
        cdef bint activate = loss.reads_outputs
        cdef Watch watch = _new_watch()
        cdef Step step = self.begin(False, 1)
        cdef Batch batch
        cdef double total = 0
        cdef int status = OK
        none.data, none.stride = NULL, 0
        step.row_stride = target.stride
        self.reserve(data.rows)
        with nogil:
            while first < data.rows and status == OK:
                rows = min(self.ws.rows, data.rows - first)
                step.gradients = <char *>_rows_from(target, first, self.plan.itemsize).data
                batch = _batch(self.plan, data, NULL, first, rows, self.ws)
                status = _forward(self.plan, self._parameters, batch.x, rows, self.ws, activate,
                                  threads, &watch)
                if status == OK:
                    total += _loss(self.plan, self.ws, rows, loss, batch.target, batch.weight, 1,
                                   self.ws.delta(last), threads)
                    status = _backward(self.plan, batch.x, rows, self.ws, &step, none, threads,
                                       &watch)
                first += rows
        _propagate(status)
        return total

    def update(self) -> int:
        """One step with the gradients as they stand; returns a status."""
        cdef Step step = self.begin(False, 1)
        cdef int status
        with nogil:
            status = self.finish(&step)
        return status


STATUS_OK = <int>OK
STATUS_LOSS_NOT_FINITE = <int>LOSS_NOT_FINITE
STATUS_OVERFLOW = <int>OVERFLOW


# ---- Sessions: for compiled code of other projects ----


cdef class Session:
    """What a `ds_session` points to: a descent and its workspaces, for one caller at a time.

    `target_width` is the number of columns of dense targets.
    """

    cdef Descent descent
    cdef Loss loss
    cdef Dataset data           # of the batch at hand
    cdef Workspace kept, inference
    cdef Py_ssize_t kept_rows   # of the last forward
    cdef int threads
    cdef Watch watch            # never looks for signals: there may be no Python around
    cdef ds_session table

    def __init__(
        self, Descent descent, Loss loss, Py_ssize_t rows, Py_ssize_t target_width, bint labels,
        int threads,
    ):
        cdef Plan plan = descent.plan
        self.descent, self.loss, self.threads = descent, loss, threads
        self.data = Dataset.__new__(Dataset)
        self.data._plan, self.data.target_width = plan, 1 if labels else target_width
        self.data.x.stride, self.data.y.stride = plan.inputs, target_width
        self.kept, self.inference = Workspace(plan, rows, True), Workspace(plan, rows, False)
        self.watch.enabled = False
        descent.reserve(rows)
        self.table.self = <void *>self
        self.table.inputs, self.table.outputs = plan.inputs, plan.outputs
        self.table.targets, self.table.parameters = self.data.target_width, plan.parameters
        self.table.max_rows, self.table.float_bits = rows, plan.float_bits
        self.table.has_labels = labels
        self.table.parameter_values = descent._parameters
        self.table.gradients = descent._gradients
        self.table.predict, self.table.forward = _session_predict, _session_forward
        self.table.backward, self.table.update = _session_backward, _session_update
        self.table.step = _session_step

    def capsule(self):
        """The table as a capsule that keeps the session."""
        cdef object capsule = PyCapsule_New(&self.table, DS_SESSION, _release_session)
        PyCapsule_SetContext(capsule, <void *>self)
        Py_INCREF(self)
        return capsule

    cdef int outputs(
        self, Workspace ws, const void *x, Py_ssize_t rows, void *out
    ) noexcept nogil:
        """x (rows, inputs) through a workspace to out (rows, outputs)."""
        return _outputs(self.descent.plan, self.descent._parameters, x, rows, out, ws,
                        self.threads, &self.watch)


cdef int _outputs(
    Plan plan, const char *parameters, const void *x, Py_ssize_t rows, void *out, Workspace ws,
    int threads, Watch *watch,
) noexcept nogil:
    """A forward pass between matrices without gaps; a training workspace keeps its inputs."""
    cdef ds_rows source, target
    source.data, source.stride = <void *>x, plan.inputs
    target.data, target.stride = out, plan.outputs
    if ws.training:
        _copy_rows(source, NULL, rows, plan.inputs, plan.itemsize, ws.batch_x)
        source = ws.batch_x
    _forward(plan, parameters, source, rows, ws, True, threads, watch)
    _copy_rows(ws.y[plan.n_layers - 1], NULL, rows, plan.outputs, plan.itemsize, target)
    return OK


cdef void _release_session(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef int _session_predict(void *self, const void *x, Py_ssize_t rows, void *out) noexcept nogil:
    if not 0 < rows <= (<Session>self).table.max_rows:
        return DS_SESSION_ROWS
    return (<Session>self).outputs((<Session>self).inference, x, rows, out)


cdef int _session_forward(void *self, const void *x, Py_ssize_t rows, void *out) noexcept nogil:
    if not 0 < rows <= (<Session>self).table.max_rows:
        return DS_SESSION_ROWS
    (<Session>self).kept_rows = rows
    return (<Session>self).outputs((<Session>self).kept, x, rows, out)


cdef int _session_backward(
    void *self, const void *d_out, Py_ssize_t rows, int accumulate, void *d_x
) noexcept nogil:
    cdef ds_rows source, target
    if rows <= 0 or rows != (<Session>self).kept_rows:
        return DS_SESSION_ROWS
    source.data, source.stride = <void *>d_out, (<Session>self).table.outputs
    target.data, target.stride = d_x, (<Session>self).table.inputs
    return _backward_from(
        (<Session>self).descent.plan, (<Session>self).descent._parameters, source, rows,
        (<Session>self).descent._gradients, 0, accumulate, target, (<Session>self).kept,
        (<Session>self).threads, &(<Session>self).watch)


cdef int _session_update(void *self) noexcept nogil:
    cdef Step step = (<Session>self).descent.begin(False, 1)
    return (<Session>self).descent.finish(&step)


cdef int _session_step(
    void *self, const void *x, const void *y, Py_ssize_t rows, double *loss
) noexcept nogil:
    cdef int status
    if not 0 < rows <= (<Session>self).table.max_rows:
        return DS_SESSION_ROWS
    (<Session>self).data.rows, (<Session>self).data.x.data = rows, <void *>x
    if (<Session>self).table.has_labels:
        (<Session>self).data.labels = <const int64_t *>y
    else:
        (<Session>self).data.y.data = <void *>y
    loss[0] = 0
    status = (<Session>self).descent.step(
        (<Session>self).data, (<Session>self).loss, NULL, 0, rows, (<Session>self).threads,
        &(<Session>self).watch, loss)
    loss[0] /= rows
    return status
