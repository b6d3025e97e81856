"""downslope_session.h for Cython: see there."""

cdef extern from "downslope_session.h" nogil:
    const char *DS_SESSION

    enum:
        DS_SESSION_OK
        DS_SESSION_LOSS_NOT_FINITE
        DS_SESSION_OVERFLOW
        DS_SESSION_ROWS

    ctypedef struct ds_session:
        void *self
        Py_ssize_t inputs, outputs, targets, parameters, max_rows
        int float_bits, has_labels
        void *parameter_values
        void *gradients
        int (*predict)(void *self, const void *x, Py_ssize_t rows, void *out) noexcept nogil
        int (*forward)(void *self, const void *x, Py_ssize_t rows, void *out) noexcept nogil
        int (*backward)(
            void *self, const void *d_out, Py_ssize_t rows, int accumulate,
            void *d_x) noexcept nogil
        int (*update)(void *self) noexcept nogil
        int (*step)(
            void *self, const void *x, const void *y, Py_ssize_t rows, double *loss) noexcept nogil
