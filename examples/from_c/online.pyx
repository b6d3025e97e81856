"""Calls C code, and a network from Cython, without the GIL."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from downslope.session cimport DS_SESSION, ds_session

cdef extern from "loop.h" nogil:
    double c_learn "learn"(
        const ds_session *net, const float *x, const float *y, Py_ssize_t rows, int times)


def learn(capsule, const float[:, ::1] x, const float[:, ::1] y, int times) -> float:
    """Train row after row; the mean loss of the last time through the rows."""
    cdef const ds_session *net = <const ds_session *>PyCapsule_GetPointer(capsule, DS_SESSION)
    cdef double loss
    if x.shape[1] != net.inputs or y.shape[1] != net.targets or x.shape[0] != y.shape[0]:
        raise ValueError("x and y do not fit the network")
    with nogil:
        loss = c_learn(net, &x[0, 0], &y[0, 0], x.shape[0], times)
    return loss


def steepest(capsule, float[::1] x, int steps, float rate) -> float:
    """Move an input up the gradient of the first output, in place; that output at the end."""
    cdef const ds_session *net = <const ds_session *>PyCapsule_GetPointer(capsule, DS_SESSION)
    cdef float[8] out, d_out
    cdef float[64] d_x
    cdef Py_ssize_t i, _
    if x.shape[0] != net.inputs or net.inputs > 64 or net.outputs > 8:
        raise ValueError("x does not fit the network")
    with nogil:
        for i in range(8):
            d_out[i] = i == 0
        for _ in range(steps):
            net.forward(net.self, &x[0], 1, out)
            net.backward(net.self, d_out, 1, 0, d_x)
            for i in range(net.inputs):
                x[i] += rate * d_x[i]
        net.predict(net.self, &x[0], 1, out)
    return out[0]
