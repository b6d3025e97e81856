# What a network is to the engine: its layers, the memory of a pass, pointers into both.

# One product of a block should not take longer than Ctrl-C may wait: at most this many flops
# (15 ms at 100 GFLOP/s), and at most this many rows, which bounds the memory of activations.
cdef double BLOCK_FLOPS = 1.5e9
cdef Py_ssize_t BLOCK_ROWS = 4096

# How quickly a thread does its parts of products.
cdef struct Pace:
    double work, seconds    # sums over the parts it did, the older the less; work / seconds: speed
    double begin            # of its part of the product under way, from 0 to 1
    double part, time       # how much of the whole that was, and how long it took

# With sums that begin so small (seconds), the first measurements soon prevail.
cdef double FIRST_SUM = 1e-5

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


@cython.final
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
    cdef readonly object dtype
    cdef readonly bint penalized            # a trained layer has a penalty,
    cdef readonly bint limited              # or a largest norm
    cdef readonly Py_ssize_t first_trained  # no layer before it changes
    cdef readonly bint uniform              # all layers are trained, at one learning rate
    cdef readonly bint small                # gradients wait in the workspace for the update
    cdef readonly bint single               # a step from one row may go by `_row_gradients`
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
        self.dtype = np.dtype(np.float32 if float_bits == 32 else np.float64)
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
                self.limited |= not isinf(layer.max_norm)
        self.inputs, self.outputs = self.layers[0].inputs, layer.outputs
        self.input_dropped, self.input_noise = input_dropped, input_noise
        self.small = self.parameters <= SMALL_PARAMETERS
        self.single = self.parameters <= SINGLE_PARAMETERS and not (
            self.penalized or input_dropped or input_noise)
        self.uniform = True
        for i in range(self.n_layers):
            layer = &self.layers[i]
            self.uniform &= layer.trainable and layer.learning_rate == 1
            self.single &= (layer.bias_count == layer.outputs and layer.dropped == 0)
        self.single &= self.uniform and not self.limited
        self.block_rows = max(32, min(BLOCK_ROWS, <Py_ssize_t>(BLOCK_FLOPS / (2.0 * largest))))

    cdef Py_ssize_t scratch(self, const Layer *layer, Py_ssize_t rows, bint training) noexcept:
        """The elements of scratch that the products of a layer need, in whole cache lines."""
        cdef Py_ssize_t size = self.kernels.product_scratch(rows, layer.outputs, layer.inputs)
        if training:
            size = max(size, self.kernels.product_scratch(rows, layer.inputs, layer.outputs),
                       self.kernels.product_scratch(layer.inputs, layer.outputs, rows),
                       self.kernels.product_scratch(1, layer.inputs, rows))
        return (size + 15) // 16 * 16

    def __dealloc__(self):
        free(self.layers)


cdef Py_ssize_t CACHE_LINE = 64
# More than the bytes of a block for each of its rows and columns, with their padding.
cdef Py_ssize_t MOST_BYTES = 64
# Pieces of a workspace of at most so many bytes share arrays of so many.
cdef Py_ssize_t SMALL_BYTES = 1 << 13, SHARED_BYTES = 1 << 15


@cython.final
cdef class Workspace:
    """What a pass of at most `rows` rows writes: made once, used by one thread at a time.

    An inference workspace holds two activation blocks in turn; a training one keeps every layer's
    outputs (and net inputs where a derivative reads them), two deltas and the gathered batch; a
    noisy one, for the steps of a descent, draws dropout masks and noise.
    """

    cdef readonly Plan plan
    cdef readonly Py_ssize_t rows
    cdef readonly bint training, noisy
    cdef bint polling               # signal handlers run in the middle of a pass
    cdef ds_rows *z                 # (rows, outputs) net inputs, or NULL data
    cdef ds_rows *y                 # (rows, outputs)
    cdef ds_rows *passed            # (rows, outputs) what the next layer reads: y, or y * mask
    cdef ds_rows *masks             # (rows, outputs), or NULL data
    cdef ds_rows input_mask         # (rows, inputs), or NULL data
    cdef uint64_t seed, step        # what noise is a function of, beside
    cdef Py_ssize_t first_row       # the place in the batch
    cdef char *deltas[2]            # (rows, outputs) of the layer at work and the one before
    cdef char *scratch              # of products, for each thread
    cdef Py_ssize_t scratch_size    # elements for one thread
    cdef int shares                 # the threads there is scratch for
    cdef Pace *paces                # (shares + 1,) of these threads, and an end
    cdef char *row                  # (widest,): a shared bias spread out, or a bias gradient
    cdef char *gradients            # (parameters,) of a small network
    cdef ds_row_pass row_pass       # of a network whose steps may be from a single row
    cdef double *row_loss           # (rows,)
    cdef ds_rows batch_x, batch_y
    cdef int64_t *batch_labels
    cdef char *batch_weight
    cdef char *_free                # what is left of the last shared array
    cdef Py_ssize_t _left           # its bytes
    cdef list _arrays

    def __cinit__(self, Plan plan, Py_ssize_t rows, bint training, bint noisy=False):
        cdef Py_ssize_t i
        cdef Layer *layer
        self.plan, self.rows, self.training, self._arrays = plan, rows, training, []
        self.noisy = noisy
        if rows > PY_SSIZE_T_MAX // (MOST_BYTES * (plan.inputs + plan.widest + CACHE_LINE)):
            raise MemoryError(f"a pass of {rows} rows takes more memory than there are addresses")
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
            self.scratch_size = max(self.scratch_size, plan.scratch(layer, rows, training))
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
            self.gradients = self.take(
                plan.parameters + plan.kernels.vector if plan.small else 0, plan.itemsize)
            self.batch_x = self.block(plan.inputs)
            self.batch_y = self.block(plan.outputs)
            self.batch_labels = <int64_t *>self.take(rows, sizeof(int64_t))
            self.batch_weight = self.take(rows, plan.itemsize)
        if training and plan.single:
            self.set_row_pass()
        self.share(1)

    cdef int set_row_pass(self) except -1:
        """What the pass of a single row needs of each layer."""
        cdef Py_ssize_t l
        cdef Layer *layer
        cdef ds_row_layer *one
        cdef Py_ssize_t vector = self.plan.kernels.vector
        self.row_pass.n_layers = self.plan.n_layers
        self.row_pass.layers = <ds_row_layer *>self.take(self.plan.n_layers, sizeof(ds_row_layer))
        for l in range(self.plan.n_layers):
            layer, one = &self.plan.layers[l], &self.row_pass.layers[l]
            one.inputs, one.outputs, one.alpha = layer.inputs, layer.outputs, layer.alpha
            one.cols = layer.outputs if layer.rowwise else (
                (layer.outputs + vector - 1) // vector * vector)
            one.y, one.delta = self.y[l].data, self.delta(l).data
            one.z = self.z[l].data if layer.reads_input else one.y
            if layer.activation != DS_ACTIVATION_identity:
                one.activation = self.plan.kernels.activations[layer.activation]
                one.derivative = self.plan.kernels.derivatives[layer.activation]
        return 0

    cpdef int check_idle(self) except -1:
        """Refuse a call from a signal handler in the middle of a pass."""
        if self.polling:
            raise RuntimeError(
                "a signal handler calls what it has interrupted, which this thread is in the "
                "middle of; set a flag in the handler, and act on it after the call or in a "
                "callback"
            )
        return 0

    cdef int share(self, int threads) except -1:
        """Have scratch for so many threads."""
        cdef int p
        self.check_idle()
        if threads > self.shares:
            self.scratch = self.take(threads * self.scratch_size, self.plan.itemsize)
            self.paces = <Pace *>self.take(threads + 1, sizeof(Pace))
            for p in range(threads):
                self.paces[p].work = self.paces[p].seconds = FIRST_SUM
            self.shares = threads
        return 0

    def __dealloc__(self):
        free(self.z)
        free(self.y)
        free(self.passed)
        free(self.masks)

    cdef char *take(self, Py_ssize_t count, Py_ssize_t itemsize) except NULL:
        """Memory for `count` items, from a cache line on; pages that are never touched cost
        nothing.  Small pieces share an array, with a line between them: two blocks in the same
        place of their pages would be in each other's way."""
        cdef Py_ssize_t size = (count * itemsize + 2 * CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
        cdef char *piece
        if size > SMALL_BYTES:
            return self.allocate(size)
        if size > self._left:
            self._free, self._left = self.allocate(SHARED_BYTES), SHARED_BYTES
        piece = self._free
        self._free += size
        self._left -= size
        return piece

    cdef char *allocate(self, Py_ssize_t size) except NULL:
        cdef char[::1] array = aligned_zeros(size, np.int8)
        self._arrays.append(array)
        return &array[0]

    cdef ds_rows block(self, Py_ssize_t width) except *:
        """A block (rows, width).  Rows wider than a cache line are padded to whole lines, and off
        multiples of 2 kB, where the rows of a column would fall on the same few cache sets."""
        cdef ds_rows block
        cdef Py_ssize_t line = CACHE_LINE // self.plan.itemsize
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
