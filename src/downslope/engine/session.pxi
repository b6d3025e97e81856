# Sessions: for compiled code of other projects.


@cython.final
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
        self.kept.share(threads)
        self.inference.share(threads)
        descent.reserve(rows, threads)
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
        _copy_rows(source, NULL, rows, plan.inputs, plan.itemsize, ws.batch_x, threads)
        source = ws.batch_x
    _forward(plan, parameters, source, rows, ws, True, threads, watch)
    _copy_rows(ws.y[plan.n_layers - 1], NULL, rows, plan.outputs, plan.itemsize, target, threads)
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
    cdef Step step
    (<Session>self).descent.begin(&step, False, 1)
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
