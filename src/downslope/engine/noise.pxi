# Noise of a training step: a function of (seed, step, layer, place in the batch).

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
