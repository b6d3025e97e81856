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
its end, and a step of a small network, whose gradients stay in the caches.  Else the update is the
epilogue of the gradient product and the gradient is never stored.  Both give the same bits: a
gradient element is one chain over the batch's rows either way.

Threads: each product is cut by rows or by columns into parts that compute whole elements, so their
number does not show in the result.
"""

import os
import threading

import numpy as np

from downslope._memory import aligned_zeros

cimport cython
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.pythread cimport (
    NOWAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_release_lock, PyThread_type_lock)
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
    ds_derivative_finish, ds_gather, ds_kernels, ds_product, ds_row_layer, ds_row_pass, ds_rows,
    ds_task_fn, ds_update_finish, gather_rows, loss_output, loss_takes_labels, optimizer_states,
    parallel, permutation, plain_rows, ready_rows, rows_of, vector_of)
from downslope.session cimport DS_SESSION, DS_SESSION_ROWS, ds_session

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept
    void *PyErr_Occurred() noexcept
    Py_ssize_t PY_SSIZE_T_MAX
    unsigned long PyThread_get_thread_ident() noexcept nogil

cdef object _empty = np.empty

# One module, in files by subject.
include "engine/plan.pxi"
include "engine/threads.pxi"
include "engine/noise.pxi"
include "engine/signals.pxi"
include "engine/exclusive.pxi"
include "engine/passes.pxi"
include "engine/data.pxi"
include "engine/inference.pxi"
include "engine/descent.pxi"
include "engine/session.pxi"
