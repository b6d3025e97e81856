# Threads: the part of a task that one thread does.  Where the parts begin never shows in a result.

# Work below this is not worth another thread: the start and the end of a task cost about a
# microsecond, and what one core wrote comes to the other's cache line by line.
cdef double FLOPS_PER_THREAD = 5e5
# Rough costs in flops, for the same decision: of an element of an activation, a loss or an update;
# of a byte that is copied from anywhere in a data set; of a row that is copied or has a loss.
cdef double FLOPS_PER_ELEMENT = 50
cdef double FLOPS_PER_BYTE = 5
cdef double FLOPS_PER_ROW = 1000
# Of an element of an operand or a result of a product: it matters where one of the three
# dimensions is short.
cdef double FLOPS_PER_MOVE = 8
# So many rows of a product fill the pipes.
cdef Py_ssize_t FULL_TILE = 8
# Cores differ in speed, by their kind or by what else they do.  So much of what was measured still
# counts a product later, and no thread gets less than this part of an equal share.
cdef double FORGETTING = 0.95
cdef double LEAST_SHARE = 0.25


cdef inline int _parts(double flops, int threads) noexcept nogil:
    """How many threads a piece of work is worth: the cost model."""
    cdef int worth = <int>min(flops / FLOPS_PER_THREAD, <double>threads)
    return max(worth, 1)


# ---- Products ----


cdef void _share_out(Pace *paces, int parts) noexcept nogil:
    """Where the parts of a product begin, so that all should end at the same time."""
    cdef double total = 0, least = 0
    cdef int p
    for p in range(parts):
        least += LEAST_SHARE * paces[p].work / paces[p].seconds / parts
    for p in range(parts):
        paces[p].begin = total
        total += max(paces[p].work / paces[p].seconds, least)
    for p in range(parts):
        paces[p].begin /= total
    paces[parts].begin = 1


cdef void _learn_paces(Pace *paces, int parts) noexcept nogil:
    """From the product just done; a long one counts for more than a short one."""
    cdef double total = 0
    cdef int p
    for p in range(parts):
        total += paces[p].time
    for p in range(parts):
        paces[p].work = FORGETTING * paces[p].work + paces[p].part * total
        paces[p].seconds = FORGETTING * paces[p].seconds + paces[p].time


cdef inline Py_ssize_t _cut(double fraction, Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    """That fraction of n, in whole units."""
    return min(<Py_ssize_t>(fraction * ((n + unit - 1) // unit) + 0.5) * unit, n)


# The sums over the rows of a block, and what is done with them: a bias gradient.
cdef struct ColumnSums:
    Py_ssize_t rows, columns
    ds_rows block               # (rows, columns)
    const char *start           # (columns,), or NULL
    char *sums                  # (columns,)
    ds_update_finish *finish    # of a vector (columns,), or NULL


cdef void _sum_columns(
    const ds_kernels *kernels, const ColumnSums *task, Py_ssize_t first, Py_ssize_t end
) noexcept nogil:
    """The sums of columns first .. end."""
    cdef Py_ssize_t itemsize = kernels.float_bits // 8
    cdef ds_rows block = task.block, sums
    block.data = <char *>block.data + first * itemsize
    sums.data, sums.stride = task.sums + first * itemsize, task.columns
    kernels.column_sums(task.rows, end - first, block,
                        task.start + first * itemsize if task.start != NULL else NULL, sums.data)
    if task.finish != NULL:
        kernels.finish_update(task.finish, 0, first, 1, end - first, sums)


cdef void _sum_shared(
    const ds_kernels *kernels, const ColumnSums *task, char *columns
) noexcept nogil:
    """The sum of all column sums, which go through `columns`: a bias that all units share."""
    cdef ds_rows sums
    kernels.column_sums(task.rows, task.columns, task.block, NULL, columns)
    sums.data, sums.stride = columns, 1  # they stand below each other: (columns, 1)
    kernels.column_sums(task.columns, 1, sums, task.start, task.sums)
    if task.finish != NULL:
        sums.data = task.sums
        kernels.finish_update(task.finish, 0, 0, 1, 1, sums)


# A product, and sums that go with it.
cdef struct ProductTask:
    const ds_kernels *kernels
    ds_product whole
    const ColumnSums *sums      # or NULL
    Py_ssize_t scratch_bytes    # of one part
    bint by_columns
    Pace *paces                 # (parts + 1,)


cdef void _product_part(void *context, int part, int parts) noexcept nogil:
    cdef const ProductTask *task = <const ProductTask *>context
    cdef ds_product product = task.whole
    cdef Pace *pace = task.paces + part
    cdef double begin = pace[0].begin, end = pace[1].begin, clock = _now()
    cdef Py_ssize_t vector = task.kernels.vector, n, first, last
    if task.by_columns:
        n = product.col_end
        first, last = _cut(begin, n, vector), _cut(end, n, vector)
        product.col_begin, product.col_end = first, last
    else:
        n = product.row_end
        first, last = _cut(begin, n, 1), _cut(end, n, 1)
        product.row_begin, product.row_end = first, last
    product.scratch = <char *>product.scratch + part * task.scratch_bytes
    task.kernels.product(&product)
    if task.sums != NULL:
        _sum_columns(task.kernels, task.sums, _cut(begin, task.sums.columns, vector),
                     _cut(end, task.sums.columns, vector))
    pace.part = (last - first) / <double>n
    pace.time = _now() - clock


cdef void _run_product(
    Plan plan, ds_product *product, Workspace ws, int threads, const ColumnSums *sums=NULL
) noexcept nogil:
    """The whole product, cut for as many threads as it is worth: by rows or by columns, whichever
    are more, so that what each thread packs for itself is the smaller part of the work.  Squares by
    rows: an update then goes through memory in sequence."""
    cdef ProductTask task
    cdef Py_ssize_t rows = product.row_end, columns = product.col_end, strips
    cdef Py_ssize_t vector = plan.kernels.vector, lanes = (columns + vector - 1) // vector * vector
    cdef int parts = 1
    product.scratch = ws.scratch
    product.row_begin, product.col_begin = 0, 0
    if threads > 1:
        parts = _parts(
            rows * lanes * (FLOPS_PER_MOVE + (FLOPS_PER_ELEMENT if product.finish != NULL else 0))
            + product.depth * (2.0 * rows * lanes + FLOPS_PER_MOVE * (rows + lanes)), threads)
    if parts == 1:
        plan.kernels.product(product)
        if sums != NULL:
            _sum_columns(plan.kernels, sums, 0, sums.columns)
        return
    strips = (columns + plan.kernels.strip - 1) // plan.kernels.strip
    task.by_columns = rows < parts * FULL_TILE or (columns > rows and strips >= 4 * parts)
    task.kernels, task.whole, task.sums = plan.kernels, product[0], sums
    task.scratch_bytes = ws.scratch_size * plan.itemsize
    task.paces = ws.paces
    _share_out(ws.paces, parts)
    parallel(_product_part, &task, parts)
    _learn_paces(ws.paces, parts)


# ---- Rows ----


cdef struct GatherTask:
    ds_gather gather
    Py_ssize_t rows, target_stride      # bytes
    char *target


cdef void _gather_part(void *context, int part, int parts) noexcept nogil:
    cdef const GatherTask *task = <const GatherTask *>context
    cdef ds_gather gather = task.gather
    cdef Py_ssize_t first = task.rows * part // parts, end = task.rows * (part + 1) // parts
    if gather.order != NULL:
        gather.order += first
    else:
        gather.source = <const char *>gather.source + first * gather.source_stride
    gather_rows(&gather, end - first, task.target + first * task.target_stride, task.target_stride)


cdef void _copy_rows(
    ds_rows source, const int64_t *order, Py_ssize_t rows, Py_ssize_t width, Py_ssize_t itemsize,
    ds_rows target, int threads,
) noexcept nogil:
    """Rows order[0], order[1], ... of the source (order NULL: in sequence), one below the other."""
    cdef GatherTask task
    cdef int parts = 1
    task.gather.source, task.gather.order = source.data, order
    task.gather.source_stride, task.gather.row_bytes = source.stride * itemsize, width * itemsize
    task.rows, task.target, task.target_stride = rows, <char *>target.data, target.stride * itemsize
    if threads > 1:
        parts = _parts(rows * (FLOPS_PER_ROW + FLOPS_PER_BYTE * width * itemsize), threads)
    if parts == 1:
        gather_rows(&task.gather, rows, task.target, task.target_stride)
    else:
        parallel(_gather_part, &task, parts)


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
        parts = _parts(
            task.rows * (FLOPS_PER_ROW + FLOPS_PER_ELEMENT * task.layer.outputs), threads)
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
