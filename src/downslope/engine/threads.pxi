# Threads: the part of a task that one thread does.

# Work below this is not worth another thread: waking one costs about a microsecond.
cdef double FLOPS_PER_THREAD = 1e6
# Rough cost of one element of an activation or loss, in flops, for the same decision.
cdef double FLOPS_PER_ELEMENT = 50


cdef inline int _parts(double flops, int threads) noexcept nogil:
    """How many threads a piece of work is worth: the cost model."""
    cdef int worth = <int>min(flops / FLOPS_PER_THREAD, <double>threads)
    return max(worth, 1)


cdef struct ProductTask:
    const ds_kernels *kernels
    ds_product whole
    Py_ssize_t scratch_bytes    # of one part
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
    product.scratch = <char *>product.scratch + part * task.scratch_bytes
    task.kernels.product(&product)


cdef void _run_product(
    Plan plan, ds_product *product, bint by_columns, Workspace ws, int threads
) noexcept nogil:
    """The whole product, cut by rows, or by columns, for as many threads as it is worth."""
    cdef ProductTask task
    cdef int parts = 1
    product.scratch = ws.scratch
    product.row_begin, product.col_begin = 0, 0
    if threads > 1:
        parts = _parts(2.0 * product.row_end * product.col_end * product.depth, threads)
    if parts == 1:
        plan.kernels.product(product)
        return
    task.kernels, task.whole, task.by_columns = plan.kernels, product[0], by_columns
    task.scratch_bytes = ws.scratch_size * plan.itemsize
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
