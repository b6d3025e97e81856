"""The C side as Cython sees it.

Only `_kernels` links csrc: two extensions that did would hold two thread pools and two dispatch
states.  Other extensions cimport the types from here and call the functions at the end.
"""

from libc.stdint cimport int64_t, uint64_t

cdef extern from "downslope.h" nogil:
    enum:
        DS_ACTIVATION_none
        DS_ACTIVATION_identity
        DS_ACTIVATION_COUNT
        DS_LOSS_COUNT
        DS_OPTIMIZER_COUNT
        DS_ELEMENTARY_COUNT
        DS_ISA_COUNT
        DS_LANES
        DS_MAX_STATES
        DS_MAX_HYPER
        DS_MAX_COEFFICIENTS
        DS_MAX_THREADS
        DS_DROPOUT_ONE

    ctypedef struct ds_rows:
        void *data
        Py_ssize_t stride

    ctypedef void (*ds_finish_fn)(
        const void *context, Py_ssize_t i, Py_ssize_t j, Py_ssize_t rows, Py_ssize_t cols,
        ds_rows tile) noexcept nogil

    ctypedef struct ds_product:
        Py_ssize_t row_begin, row_end, col_begin, col_end, depth
        const void *a
        Py_ssize_t a_row, a_depth
        const void *b
        Py_ssize_t b_depth, b_col
        const void *start
        Py_ssize_t start_row
        void *c
        Py_ssize_t c_row
        ds_finish_fn finish
        const void *context
        void *scratch

    ctypedef void (*ds_activation_fn)(
        Py_ssize_t rows, Py_ssize_t cols, ds_rows z, ds_rows y, double alpha) noexcept nogil
    ctypedef void (*ds_derivative_fn)(
        Py_ssize_t rows, Py_ssize_t cols, ds_rows z, ds_rows y, ds_rows d,
        double alpha) noexcept nogil
    ctypedef void (*ds_loss_fn)(
        Py_ssize_t rows, Py_ssize_t cols, ds_rows output, ds_rows target, const void *weight,
        double scale, const double *parameters, double *row_loss, ds_rows delta) noexcept nogil
    ctypedef void (*ds_prepare_fn)(
        const double *hyper, int64_t step, void *coefficients) noexcept nogil
    ctypedef int (*ds_update_fn)(
        Py_ssize_t rows, Py_ssize_t cols, ds_rows gradient, void *parameters, void **states,
        Py_ssize_t stride, const void *coefficients) noexcept nogil
    ctypedef void (*ds_column_sums_fn)(
        Py_ssize_t rows, Py_ssize_t cols, ds_rows block, const void *start,
        void *sums) noexcept nogil
    ctypedef void (*ds_product_fn)(const ds_product *product) noexcept nogil
    ctypedef Py_ssize_t (*ds_product_scratch_fn)(
        Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t depth) noexcept nogil
    ctypedef void (*ds_elementary_fn)(
        Py_ssize_t n, const void *x, void *y) noexcept nogil

    ctypedef void (*ds_draws_fn)(
        uint64_t seed, uint64_t stream, uint64_t first, uint64_t *bits) noexcept nogil
    ctypedef void (*ds_dropout_mask_fn)(
        uint64_t seed, uint64_t stream, uint64_t first, Py_ssize_t n, int dropped,
        void *mask) noexcept nogil
    ctypedef void (*ds_multiply_fn)(
        Py_ssize_t rows, Py_ssize_t cols, ds_rows x, ds_rows mask, ds_rows y) noexcept nogil
    ctypedef void (*ds_add_normal_fn)(
        uint64_t seed, uint64_t stream, uint64_t first, Py_ssize_t rows, Py_ssize_t cols,
        ds_rows x, double deviation, ds_rows y) noexcept nogil
    ctypedef double (*ds_penalize_fn)(
        Py_ssize_t n, const void *parameters, double l1, double l2, void *gradient,
        double factor) noexcept nogil
    ctypedef void (*ds_scale_fn)(
        Py_ssize_t rows, Py_ssize_t cols, ds_rows block, double factor) noexcept nogil
    ctypedef void (*ds_clip_fn)(Py_ssize_t n, void *values, double limit) noexcept nogil
    ctypedef double (*ds_sum_of_squares_fn)(Py_ssize_t n, const void *values) noexcept nogil
    ctypedef void (*ds_limit_columns_fn)(
        Py_ssize_t rows, Py_ssize_t cols, ds_rows block, double limit) noexcept nogil
    ctypedef void (*ds_average_fn)(
        Py_ssize_t n, const void *values, void *means, double momentum) noexcept nogil
    ctypedef Py_ssize_t (*ds_first_not_finite_fn)(
        Py_ssize_t rows, Py_ssize_t cols, ds_rows block) noexcept nogil
    ctypedef Py_ssize_t (*ds_fma_chains_fn)(Py_ssize_t length, void *sum) noexcept nogil

    ctypedef struct ds_activation_finish:
        ds_activation_fn activation
        ds_rows y
        double alpha

    ctypedef struct ds_derivative_finish:
        ds_derivative_fn derivative
        ds_rows z, y
        double alpha

    ctypedef struct ds_update_finish:
        ds_update_fn update
        void *parameters
        void **states
        Py_ssize_t stride
        const void *coefficients
        double l1, l2, remainder
        int *overflow

    ctypedef struct ds_row_layer:
        Py_ssize_t inputs, outputs, cols
        ds_activation_fn activation
        ds_derivative_fn derivative
        double alpha
        void *z
        void *y
        void *delta

    ctypedef struct ds_row_pass:
        ds_row_layer *layers
        Py_ssize_t n_layers
        ds_loss_fn loss
        const double *loss_parameters
        bint reads_outputs

    ctypedef double (*ds_row_gradients_fn)(
        const ds_row_pass *row_pass, const void *parameters, const void *x, ds_rows target,
        const void *weight, void *gradients) noexcept nogil

    ctypedef struct ds_kernels:
        int isa, float_bits, vector, strip
        ds_product_fn product
        ds_finish_fn finish_activation, finish_derivative, finish_update
        ds_product_scratch_fn product_scratch
        ds_column_sums_fn column_sums
        ds_row_gradients_fn row_gradients
        ds_draws_fn random_draws
        ds_dropout_mask_fn dropout_mask
        ds_multiply_fn multiply
        ds_add_normal_fn add_normal
        ds_activation_fn *activations
        ds_derivative_fn *derivatives
        ds_loss_fn *losses
        ds_prepare_fn *prepares
        ds_update_fn *updates
        ds_penalize_fn penalize
        ds_scale_fn scale
        ds_clip_fn clip
        ds_sum_of_squares_fn sum_of_squares
        ds_limit_columns_fn limit_columns
        ds_average_fn average
        ds_elementary_fn *elementary
        ds_first_not_finite_fn first_not_finite
        ds_fma_chains_fn fma_chains

    ctypedef struct ds_gather:
        const void *source
        Py_ssize_t source_stride, row_bytes
        const int64_t *order

    ctypedef void (*ds_task_fn)(void *context, int part, int parts) noexcept nogil

# What an activation's derivative reads and whether it works row by row; which activation a loss
# takes the net input of (DS_ACTIVATION_none: it reads outputs) and whether its targets are labels.
cdef bint activation_reads_input(int code) noexcept nogil
cdef bint activation_is_rowwise(int code) noexcept nogil
cdef int loss_output(int code) noexcept nogil
cdef bint loss_takes_labels(int code) noexcept nogil
cdef int optimizer_states(int code) noexcept nogil

cdef const ds_kernels *active_kernels(int float_bits) noexcept nogil
cdef void gather_rows(
    const ds_gather *gather, Py_ssize_t rows, void *target, Py_ssize_t target_stride) noexcept nogil
cdef void permutation(uint64_t seed, uint64_t stream, Py_ssize_t n, int64_t *out) noexcept nogil
cdef void parallel(ds_task_fn task, void *context, int parts) noexcept nogil

# The elements of an array, from the buffer protocol: quicker than a typed memoryview where an array
# is looked at once per call.  The array must outlive the pointer.
cdef ds_rows rows_of(object array, int float_bits, bint writable, Py_ssize_t *rows) except *
cdef char *vector_of(object array, int float_bits, bint writable) except? NULL

# Whether something is an array of one number type, of (rows, columns) with two axes or of
# (columns,) with one, laid out as the engine takes it; and its rows if so.
cdef bint plain_rows(
    object array, object dtype, int axes, Py_ssize_t columns, bint writable, Py_ssize_t *rows,
    ds_rows *block) except -1
# The same of what the engine takes as it is (see `is_ready`).
cdef bint ready_rows(
    object array, object dtype, int axes, Py_ssize_t columns, Py_ssize_t *rows,
    ds_rows *block) except -1
