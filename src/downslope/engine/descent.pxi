# Gradient descent: steps, epochs, runs.

# The gradients of a network of so many parameters stay in the caches until the update takes them,
# without the calls and the edges of an update for each part of each ...
cdef Py_ssize_t SMALL_PARAMETERS = 8192
# ... and a step from one row takes a short way.
cdef Py_ssize_t SINGLE_PARAMETERS = 2048
# A step longer than this keeps its gradients until the end, so that it can be given up midway.
cdef double FUSED_FLOPS = 4e9


# ---- A single row ----


cdef double _row_gradients(
    Plan plan, const char *parameters, Dataset data, Loss loss, Py_ssize_t row, Workspace ws
) noexcept nogil:
    """The loss of one row, and all gradients, in ws.gradients laid out as the parameters are,
    unless the loss is not finite.  The same bits as a batch of one gives on the long way, without
    its blocks, strips, transposed copies and gathered rows."""
    cdef Batch batch = _batch(plan, data, NULL, row, 1, ws, 1)
    ws.row_pass.loss = plan.kernels.losses[loss.code]
    ws.row_pass.loss_parameters = loss.parameters
    ws.row_pass.reads_outputs = loss.reads_outputs
    return plan.kernels.row_gradients(&ws.row_pass, parameters, batch.x.data, batch.target,
                                      batch.weight, ws.gradients)


# ---- Descent ----


PHASES = ("gather", "forward", "loss", "delta", "gradient", "update")


cdef double _lap(double *phase, double since) noexcept nogil:
    """Add the time since then to a phase; returns the time now."""
    cdef double now = _now()
    phase[0] += now - since
    return now


@cython.final
cdef class Run:
    """How a member of an ensemble is trained: the settings of `Descent.run`.

    `order` (rows,) is the array that each epoch's order is drawn into, by `seed` and `stream` + the
    epoch; None: rows in sequence.  A run ends soon after `cancelled` (1,) has become not zero.
    """

    cdef int64_t[::1] order
    cdef const int8_t[::1] cancelled
    cdef uint64_t seed, stream
    cdef Py_ssize_t batch_rows, patience, warm_up
    cdef bint stops, monitors_validation, more_is_better
    cdef double min_delta

    def __init__(self, order, cancelled, seed, stream, batch_rows):
        self.order, self.cancelled, self.seed, self.stream = order, cancelled, seed, stream
        self.batch_rows = batch_rows

    def stop_early(
        self, monitors_validation, more_is_better, patience, min_delta, warm_up
    ) -> None:
        """Stop as `EarlyStopping` does."""
        self.stops, self.monitors_validation = True, monitors_validation
        self.more_is_better, self.warm_up = more_is_better, warm_up
        self.patience, self.min_delta = patience, min_delta


@cython.final
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

    def work_in(self, Descent other) -> None:
        """Compute where another descent did, on a network of the same shape, that is at rest."""
        self.ws = other.ws

    def reserve(self, Py_ssize_t batch_rows, int threads) -> None:
        """Make the workspace for batches of so many rows, and so many threads."""
        cdef Py_ssize_t rows = min(batch_rows, self.plan.block_rows)
        if self.ws is not None:
            self.ws.check_idle()
            threads = max(threads, self.ws.shares)  # those of a Session, which counts on them
        if self.ws is None or self.ws.rows < rows:
            self.ws = Workspace(self.plan, rows, True, True)
        self.ws.share(threads)

    cdef bint is_fused(self, Py_ssize_t rows) noexcept nogil:
        """Whether a step needs no place of the caller's for its gradients: the update takes them in
        parts, or from the workspace if they are few.  Clipping wants the whole of them."""
        return (isinf(self.clip_value) and isinf(self.clip_norm)
                and rows <= self.plan.block_rows and rows * self.plan.flops_per_row <= FUSED_FLOPS)

    cdef void prepare(self, double factor, double *coefficients) noexcept nogil:
        """The coefficients of the coming step, at the learning rate times `factor`."""
        cdef double hyper[DS_MAX_HYPER]
        memcpy(hyper, self._hyper, sizeof(hyper))
        hyper[0] *= factor
        self.plan.kernels.prepares[self.optimizer](hyper, self.steps + 1, coefficients)

    cdef void begin(self, Step *step, bint fused, Py_ssize_t rows) noexcept nogil:
        """A step from so many rows on the whole parameter vector, with the coefficients of its
        number."""
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
        for l in range(0 if self.plan.uniform else self.plan.n_layers):
            if self.plan.layers[l].learning_rate != 1:
                self.prepare(self.plan.layers[l].learning_rate,
                             &self._layer_coefficients[l * DS_MAX_COEFFICIENTS])
        self._overflow = 0
        step.update.overflow = &self._overflow

    cdef int finish(self, Step *step) noexcept nogil:
        """Make the update unless it was fused, and what follows each; count the step."""
        cdef Py_ssize_t l, n = self.plan.parameters
        cdef Layer *layer
        cdef ds_rows weights
        if not step.fused:
            self.clip(step.gradients)
            self.update_from(step)
        for l in range(self.plan.n_layers if self.plan.limited else 0):
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

    cdef void clip(self, char *values) noexcept nogil:
        """First each element of the gradients, then the norm of all; a norm that is not finite is
        left to the update, which finds the elements."""
        cdef ds_rows gradients
        cdef double norm
        if not isinf(self.clip_value):
            self.plan.kernels.clip(self.plan.parameters, values, self.clip_value)
        if not isinf(self.clip_norm):
            norm = sqrt(self.plan.kernels.sum_of_squares(self.plan.parameters, values))
            if isfinite(norm) and norm > self.clip_norm:
                gradients.data, gradients.stride = values, self.plan.parameters
                self.plan.kernels.scale(
                    1, self.plan.parameters, gradients, self.clip_norm / norm)

    cdef void update_from(self, Step *step) noexcept nogil:
        """The update from gradients that were kept; the penalties are in them."""
        cdef Py_ssize_t l, n = self.plan.parameters
        cdef Layer *layer
        cdef ds_rows gradients
        cdef ds_update_finish finish
        step.penalty = 0
        if self.plan.uniform and step.decay == 0:
            gradients.data, gradients.stride = step.gradients, n
            if step.update.update(1, n, gradients, step.update.parameters, step.update.states, n,
                                  step.update.coefficients):
                self._overflow = 1
            return
        for l in range(self.plan.n_layers):
            layer = &self.plan.layers[l]
            if not layer.trainable:
                continue
            n = gradients.stride = layer.inputs * layer.outputs
            gradients.data = _at(step.gradients, layer.weights, self.plan)
            finish = _weight_update(self.plan, layer, step, n)
            self.plan.kernels.finish_update(&finish, 0, 0, 1, n, gradients)
            gradients.data = _at(step.gradients, layer.bias, self.plan)
            gradients.stride = layer.bias_count
            finish = _update_at(self.plan, layer, step, layer.bias, layer.bias_count)
            self.plan.kernels.finish_update(&finish, 0, 0, 1, layer.bias_count, gradients)

    cdef int step(
        self, Dataset data, Loss loss, const int64_t *order, Py_ssize_t first, Py_ssize_t rows,
        int threads, Watch *watch, double *total,
    ) noexcept nogil:
        """One mini-batch: rows first .. first + rows of the order.  Adds its losses to `total`."""
        cdef bint fused = self.is_fused(rows), small = fused and self.plan.small
        cdef Step step
        cdef int status
        if rows == 1 and self.takes_single_rows():
            return self.single_row(data, loss, order[first] if order != NULL else first, watch,
                                   total)
        self.begin(&step, fused and not small, rows)
        if small:
            step.gradients = self.ws.gradients
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
        cdef double block_loss, penalty = 0
        no_input_gradient.data, no_input_gradient.stride = NULL, 0
        self.ws.seed, self.ws.step = self.seed, self.steps
        if self.plan.penalized and step.fused:  # the weights are about to change
            penalty = _penalty(self.plan, step)
        for b in range(blocks):
            begin = rows * b // blocks
            count = rows * (b + 1) // blocks - begin
            batch = _batch(self.plan, data, order, first + begin, count, self.ws, threads)
            self.ws.first_row = begin
            batch.x = _noisy_inputs(self.plan, batch.x, count, self.ws, threads)
            if _forward(self.plan, self._parameters, batch.x, count, self.ws, activate, threads,
                        watch) != OK:
                return INTERRUPTED
            block_loss = _loss(self.plan, self.ws, count, loss, batch.target, batch.weight,
                               1.0 / batch_rows, self.ws.delta(self.plan.n_layers - 1), threads)
            if not isfinite(block_loss):
                return LOSS_NOT_FINITE
            total[0] += block_loss
            step.accumulate = step.accumulate or b > 0
            if _backward(self.plan, batch.x, count, self.ws, step, no_input_gradient, threads,
                         watch) != OK:
                return INTERRUPTED
        if self.plan.penalized and not step.fused:
            penalty = _penalty(self.plan, step)
        total[0] += batch_rows * penalty
        return OK

    cdef bint takes_single_rows(self) noexcept nogil:
        """Whether a step from one row is no more than its gradients and one update."""
        return (self.plan.single and self._average == NULL and self.weight_decay == 0
                and isinf(self.clip_value) and isinf(self.clip_norm))

    cdef int single_row(
        self, Dataset data, Loss loss, Py_ssize_t row, Watch *watch, double *total
    ) noexcept nogil:
        """A step from one row of a small network."""
        cdef const ds_kernels *kernels = self.plan.kernels
        cdef ds_rows gradients
        cdef double row_loss
        if _poll(watch, self.plan.flops_per_row) != OK:
            return INTERRUPTED
        row_loss = _row_gradients(self.plan, self._parameters, data, loss, row, self.ws)
        if not isfinite(row_loss):
            return LOSS_NOT_FINITE
        total[0] += row_loss
        self.steps += 1
        kernels.prepares[self.optimizer](self._hyper, self.steps, self._coefficients)
        gradients.data, gradients.stride = self.ws.gradients, self.plan.parameters
        return OVERFLOW if kernels.updates[self.optimizer](
            1, self.plan.parameters, gradients, self._parameters,
            <void **>self._states, self.plan.parameters, self._coefficients) else OK

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

    cdef int ready(self, Py_ssize_t batch_rows, int threads) except -1:
        """Make ready for steps of so many rows by so many threads."""
        if self._gradients == NULL and self.needs_gradients(batch_rows):
            raise RuntimeError("steps of this size keep their gradients: call keep_gradients")
        self.reserve(batch_rows, threads)
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
        self.ready(batch_rows, threads)
        watch.polling = &self.ws.polling
        with nogil:
            status = self.steps_on(data, loss, rows_in_order, n, batch_rows, threads, rates,
                                   deadline, &watch, &batch, &total)
        return _propagate(status), total, batch

    def run(
        self, Run run, Dataset data, Loss loss, Dataset validation, Loss validation_loss,
        Workspace ws, double[:, ::1] losses, best,
    ) -> tuple[int, int, bool]:
        """All epochs of a run on the calling thread, with no Python in between: the same as
        `Trainer.fit` with the same settings, to the bit.

        losses (2, epochs): of training and of validation (left alone without validation data).
        best (parameters,): for the parameters of the best epoch, or None.
        Returns a status, the number of epochs completed, and whether there is a best one."""
        cdef char *kept = _vector(self.plan, best, writable=True)
        cdef Py_ssize_t size = self.plan.parameters * self.plan.itemsize
        cdef Py_ssize_t epoch = 0, best_epoch = 0, batch    # epochs by their numbers from 1 on
        cdef double best_value = -INFINITY if run.more_is_better else INFINITY, value, gain, total
        cdef int64_t *order = &run.order[0] if run.order is not None else NULL
        cdef Watch watch = _new_watch()
        cdef int status = OK
        watch.cancelled = &run.cancelled[0]
        self.ready(run.batch_rows, 1)
        watch.polling = &self.ws.polling
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
                if not run.stops or epoch <= run.warm_up:
                    continue
                gain = value - best_value if run.more_is_better else best_value - value
                if gain > run.min_delta:
                    best_value, best_epoch = value, epoch
                    if kept != NULL:
                        memcpy(kept, self._parameters, size)
                elif epoch - max(best_epoch, run.warm_up) >= run.patience:
                    break
        if status == INTERRUPTED and not PyErr_Occurred():
            status = OK     # cancelled; there is nothing to raise here
        return _propagate(status), epoch, best_epoch > 0

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
        self.reserve(batch_rows, threads)
        blocks = _blocks(batch_rows, self.ws.rows)
        with nogil:
            for _ in range(steps):
                self.begin(&step, False, batch_rows)
                for b in range(blocks):
                    begin = batch_rows * b // blocks
                    count = batch_rows * (b + 1) // blocks - begin
                    step.accumulate = b > 0
                    clock = _now()
                    batch = _batch(self.plan, data, &order[0], begin, count, self.ws, threads)
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
                        _layer_gradients(
                            self.plan, &self.plan.layers[l], self.ws.y[l - 1] if l > 0 else batch.x,
                            self.ws.delta(l), count, self.ws, &step, threads)
                        clock = _lap(&phases[4], clock)
                self.finish(&step)
                clock = _lap(&phases[5], clock)
        return {name: phases[i] / steps for i, name in enumerate(PHASES)}

    def step_ready(self, x, y, int axes, Loss loss, Exclusive exclusive, int threads):
        """One step, under a claim, from rows (rows, inputs) and their targets or labels, or with
        one axis from a single row: a status and the mean loss.  None, and no step, unless the
        engine takes both as they are and gradients that a step must keep have their place."""
        cdef Dataset data = _ready_dataset(self.plan, x, y, axes, loss_takes_labels(loss.code))
        cdef Watch watch = _new_watch()
        cdef double total = 0
        cdef int status = OK
        if data is None or (self._gradients == NULL and not self.is_fused(data.rows)):
            return None
        exclusive.claim()
        try:
            self.reserve(data.rows, threads)
            watch.polling = &self.ws.polling
            with nogil:
                status = self.step(data, loss, NULL, 0, data.rows, threads, &watch, &total)
        finally:
            exclusive.release()
        return _propagate(status), total / data.rows

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
        cdef Step step
        cdef double total = 0
        cdef int status
        self.reserve(rows, threads)
        watch.polling = &self.ws.polling
        self.begin(&step, False, batch_rows)
        step.accumulate = accumulate
        if not penalize:
            step.penalty = 0
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
        cdef Step step
        cdef Batch batch
        cdef double total = 0
        cdef int status = OK
        self.reserve(data.rows, threads)
        watch.polling = &self.ws.polling
        self.begin(&step, False, 1)
        none.data, none.stride = NULL, 0
        step.row_stride = target.stride
        with nogil:
            while first < data.rows and status == OK:
                rows = min(self.ws.rows, data.rows - first)
                step.gradients = <char *>_rows_from(target, first, self.plan.itemsize).data
                batch = _batch(self.plan, data, NULL, first, rows, self.ws, threads)
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

    def add_penalties(self) -> float:
        """The layers' penalties on a batch; their gradients are added to those that are kept."""
        cdef Step step
        if not self.plan.penalized:
            return 0.0
        self.begin(&step, False, 1)
        return _penalty(self.plan, &step)

    def update(self) -> int:
        """One step with the gradients as they stand; returns a status."""
        cdef Step step
        cdef int status
        if self.ws is not None:
            self.ws.check_idle()
        self.begin(&step, False, 1)
        with nogil:
            status = self.finish(&step)
        return status


STATUS_OK = <int>OK
STATUS_LOSS_NOT_FINITE = <int>LOSS_NOT_FINITE
STATUS_OVERFLOW = <int>OVERFLOW
