# The passes through the layers: forward, loss, backward with the updates as epilogues.

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
    product.b = _at(parameters, layer.weights, plan)
    product.b_depth, product.b_col = layer.outputs, 1
    product.start, product.start_row = _bias_row(plan, layer, parameters, ws), 0
    product.c, product.c_row = out.data, out.stride
    product.finish, product.context = NULL, NULL
    if activate and layer.activation != DS_ACTIVATION_identity and not layer.rowwise:
        finish.activation = plan.kernels.activations[layer.activation]
        finish.y, finish.alpha = ws.y[l], layer.alpha
        product.finish, product.context = plan.kernels.finish_activation, &finish
    _run_product(plan, &product, ws, threads)
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
    cdef ds_product product
    cdef ds_derivative_finish finish
    cdef RowsTask task
    cdef Layer *before = &plan.layers[l - 1] if l > 0 else NULL
    product.row_end, product.col_end, product.depth = rows, layer.inputs, layer.outputs
    product.a, product.a_row, product.a_depth = delta.data, delta.stride, 1
    product.b = _at(parameters, layer.weights, plan)
    product.b_depth, product.b_col = 1, layer.outputs
    if layer.outputs == 1:  # a column lies as a row does
        product.b_depth, product.b_col = layer.inputs, 1
    product.start, product.start_row = NULL, 0
    product.c, product.c_row = out.data, out.stride
    product.finish, product.context = NULL, NULL
    if before and before.activation != DS_ACTIVATION_identity and not before.rowwise:
        finish.derivative = plan.kernels.derivatives[before.activation]
        finish.z, finish.y, finish.alpha = ws.z[l - 1], ws.y[l - 1], before.alpha
        product.finish, product.context = plan.kernels.finish_derivative, &finish
    _run_product(plan, &product, ws, threads)
    if before and ws.masks[l - 1].data != NULL:
        _drop_delta(plan, l - 1, rows, ws, out, threads)
    if before and before.rowwise:
        task = _rows_task(plan, ws, l - 1, rows)
        task.delta = out
        _run_rows(_derivative_part, &task, threads)


cdef void _layer_gradients(
    Plan plan, const Layer *layer, ds_rows x, ds_rows delta, Py_ssize_t rows, Workspace ws,
    Step *step, int threads,
) noexcept nogil:
    """Of all rows together: x (rows, inputs) transposed times delta (rows, outputs) for the
    weights, the column sums of delta for the bias.  Stored, or used up by the update."""
    cdef ds_product product
    cdef ColumnSums sums
    cdef ds_update_finish weights, bias
    if layer.outputs == 1:
        # a column of weights lies as a row does: delta transposed times x has the columns of x
        # along the vectors, and the same sums
        product.row_end, product.col_end, product.depth = 1, layer.inputs, rows
        product.a, product.a_row, product.a_depth = delta.data, 1, delta.stride
        product.b, product.b_depth, product.b_col = x.data, x.stride, 1
    else:
        product.row_end, product.col_end, product.depth = layer.inputs, layer.outputs, rows
        product.a, product.a_row, product.a_depth = x.data, 1, x.stride
        product.b, product.b_depth, product.b_col = delta.data, delta.stride, 1
    product.start, product.start_row = NULL, layer.outputs
    product.c, product.c_row = NULL, layer.outputs
    product.finish, product.context = NULL, NULL
    sums.block, sums.rows, sums.columns = delta, rows, layer.outputs
    sums.start, sums.sums, sums.finish = NULL, ws.row, NULL
    if step.fused:
        weights = _weight_update(plan, layer, step, layer.outputs)
        product.finish, product.context = plan.kernels.finish_update, &weights
        bias = _update_at(plan, layer, step, layer.bias, layer.bias_count)
        sums.finish = &bias
    else:
        product.c = _at(step.gradients, layer.weights, plan)
        sums.sums = _at(step.gradients, layer.bias, plan)
        if step.accumulate:
            product.start, sums.start = product.c, sums.sums
    if layer.bias_count == layer.outputs:
        _run_product(plan, &product, ws, threads, &sums)
        return
    _run_product(plan, &product, ws, threads)
    if layer.bias_count == 1:
        _sum_shared(plan.kernels, &sums, ws.row)


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


cdef void _layer_gradients_by_row(
    Plan plan, const Layer *layer, ds_rows x, ds_rows delta, Py_ssize_t rows, Workspace ws,
    const Step *step, int threads,
) noexcept nogil:
    """The same of each row by itself."""
    cdef Step row = step[0]
    cdef Py_ssize_t i
    for i in range(rows):
        row.gradients = _at(step.gradients, i * step.row_stride, plan)
        _layer_gradients(plan, layer, _rows_from(x, i, plan.itemsize),
                         _rows_from(delta, i, plan.itemsize), 1, ws, &row, threads)


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
            (_layer_gradients_by_row if step.row_stride else _layer_gradients)(
                plan, layer, layer_input, delta, rows, ws, step, threads)
        flops = 4.0 * rows * layer.inputs * layer.outputs
        # a fused step has begun to change the weights: it is seen through
        if not step.fused and _poll(watch, flops) != OK:
            return INTERRUPTED
    return OK


# ---- Loss ----


@cython.final
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


cdef double _penalty(Plan plan, const Step *step) noexcept nogil:
    """The sum of l1 |w| + l2 w^2 over the weights of all layers that are trained, times the step's
    factor; its gradient is added to gradients that are kept."""
    cdef Py_ssize_t l
    cdef Layer *layer
    cdef char *gradients = NULL
    cdef double total = 0
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        if layer.trainable and (layer.l1 != 0 or layer.l2 != 0):
            if not step.fused:
                gradients = _at(step.gradients, layer.weights, plan)
            total += plan.kernels.penalize(
                layer.inputs * layer.outputs, _at(step.parameters, layer.weights, plan), layer.l1,
                layer.l2, gradients, step.penalty)
    return step.penalty * total


# ---- From Python's arrays ----


cdef inline ds_rows _matrix(
    Plan plan, object array, Py_ssize_t *rows, bint writable=False
) except *:
    """The rows of a 2-d array of the plan's type whose columns are contiguous."""
    return rows_of(array, plan.float_bits, writable, rows)


cdef inline char *_vector(Plan plan, object array, bint writable=False) except? NULL:
    """The elements of a contiguous 1-d array of the plan's type; NULL for None."""
    return NULL if array is None else vector_of(array, plan.float_bits, writable)


def forward(Plan plan, parameters, x, out, Workspace ws, int threads) -> None:
    """A forward pass that keeps what `backward` needs in a training workspace, x among it."""
    cdef const char *p = _vector(plan, parameters)
    cdef Py_ssize_t n
    cdef ds_rows source = _matrix(plan, x, &n), target = _matrix(plan, out, &n, writable=True)
    cdef Watch watch = _new_watch()
    cdef int status
    ws.share(threads)
    watch.polling = &ws.polling
    with nogil:
        _copy_rows(source, NULL, n, plan.inputs, plan.itemsize, ws.batch_x, threads)
        status = _forward(plan, p, ws.batch_x, n, ws, True, threads, &watch)
        _copy_rows(ws.y[plan.n_layers - 1], NULL, n, plan.outputs, plan.itemsize, target, threads)
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
    ws.share(threads)
    watch.polling = &ws.polling
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
    _copy_rows(d_out, NULL, rows, plan.outputs, plan.itemsize, ws.delta(last), threads)
    if plan.layers[last].activation != DS_ACTIVATION_identity:
        task = _rows_task(plan, ws, last, rows)
        task.delta = ws.delta(last)
        _run_rows(_derivative_part, &task, threads)
    return _backward(plan, ws.batch_x, rows, ws, &step, d_x, threads, watch)
