/* downslope.h: the one header that the Cython side sees.
 *
 * What it declares: the lists of activations, losses and optimisers, the kernel table (one per
 * instruction set and float type), the dispatcher that chooses a table, the thread pool and the
 * random numbers.  No Python.h, no allocation in a step, no state but dispatch and pool.
 *
 * Data layout.  Every matrix is row-major: element (i, j) of a block stands at data[i * stride + j].
 * Weights are (inputs, outputs), activations and deltas (batch, units).  Sizes and strides count
 * elements, never bytes, but where it is said (ds_gather).  Kernels take void pointers to `real`:
 * float in the tables of 32 bits, double in those of 64.  Unless an argument says otherwise, no
 * alignment is asked for, and no byte past a row's last column is read or written.
 *
 * Numeric contract (docs/design.md, section "Numerics").  A kernel's result is a function of its
 * arguments alone, the same to the bit for every instruction set: each sum over `depth` or over
 * rows is one chain in ascending order, sums over the columns of a row run in DS_LANES lanes that
 * are combined in a fixed order, and every fused multiply-add is written out. */
#ifndef DOWNSLOPE_H
#define DOWNSLOPE_H

#include <stddef.h>
#include <stdint.h>

/* ---- The lists.  Adding a member here declares its kernels, gives it a code and a place in the
 * table, and lets the tests and the benchmarks find it. ---- */

/* X(name, reads, shape).
 * reads: what the derivative is computed from, the activation's INPUT (then the engine keeps the
 * net inputs of the forward pass) or its OUTPUT.
 * shape: ELEMENT by element (can be an epilogue of a product), or the whole ROW at once. */
#define DS_ACTIVATIONS(X)          \
  X(identity, OUTPUT, ELEMENT)     \
  X(sigmoid, OUTPUT, ELEMENT)      \
  X(hard_sigmoid, OUTPUT, ELEMENT) \
  X(tanh, OUTPUT, ELEMENT)         \
  X(hard_tanh, OUTPUT, ELEMENT)    \
  X(softsign, OUTPUT, ELEMENT)     \
  X(relu, OUTPUT, ELEMENT)         \
  X(relu6, OUTPUT, ELEMENT)        \
  X(leaky_relu, INPUT, ELEMENT)    \
  X(elu, INPUT, ELEMENT)           \
  X(selu, OUTPUT, ELEMENT)         \
  X(celu, OUTPUT, ELEMENT)         \
  X(gelu, INPUT, ELEMENT)          \
  X(gelu_tanh, INPUT, ELEMENT)     \
  X(silu, INPUT, ELEMENT)          \
  X(mish, INPUT, ELEMENT)          \
  X(softplus, OUTPUT, ELEMENT)     \
  X(softmax, OUTPUT, ROW)          \
  X(log_softmax, OUTPUT, ROW)

/* X(name, output, targets).
 * output: the activation whose net input the loss reads, giving the delta of the net input itself
 * (`none`: the loss reads the network's outputs and gives dE/doutput).
 * targets: DENSE (rows, outputs) real, HALF (rows, outputs / 2) real, or LABELS (rows,) int64. */
#define DS_LOSSES(X)                       \
  X(half_squared_error, none, DENSE)       \
  X(mse, none, DENSE)                      \
  X(mae, none, DENSE)                      \
  X(huber, none, DENSE)                    \
  X(log_cosh, none, DENSE)                 \
  X(quantile, none, DENSE)                 \
  X(poisson, none, DENSE)                  \
  X(gaussian_nll, none, HALF)              \
  X(hinge, none, DENSE)                    \
  X(binary_cross_entropy, sigmoid, DENSE)  \
  X(binary_focal, sigmoid, DENSE)          \
  X(cross_entropy, softmax, DENSE)         \
  X(cross_entropy_labels, softmax, LABELS) \
  X(focal, softmax, DENSE)                 \
  X(focal_labels, softmax, LABELS)

/* X(name, states): how many arrays of the parameters' size the optimiser carries along. */
#define DS_OPTIMIZERS(X) \
  X(sgd, 0)              \
  X(momentum, 1)         \
  X(nesterov, 1)         \
  X(adam, 2)             \
  X(amsgrad, 3)          \
  X(nadam, 2)            \
  X(radam, 2)            \
  X(adagrad, 1)          \
  X(rmsprop, 1)          \
  X(rmsprop_momentum, 2) \
  X(rmsprop_centered, 3) \
  X(adadelta, 2)         \
  X(lion, 1)             \
  X(rprop, 2)

/* X(name): the elementary functions under the activations and losses, listed for their tests. */
#define DS_ELEMENTARY(X) X(exp) X(expm1) X(log) X(log1p) X(tanh) X(sigmoid) X(softplus) X(erfc)

/* X(name): the instruction sets, from the plainest to the widest. */
#define DS_ISAS(X) X(scalar) X(neon) X(avx2) X(avx512)

enum { DS_READS_INPUT, DS_READS_OUTPUT };
enum { DS_SHAPE_ELEMENT, DS_SHAPE_ROW };
enum { DS_TARGETS_DENSE, DS_TARGETS_HALF, DS_TARGETS_LABELS };

#define DS_ENUM_ACTIVATION(name, reads, shape) DS_ACTIVATION_##name,
#define DS_ENUM_LOSS(name, output, targets) DS_LOSS_##name,
#define DS_ENUM_OPTIMIZER(name, states) DS_OPTIMIZER_##name,
#define DS_ENUM_ELEMENTARY(name) DS_ELEMENTARY_##name,
#define DS_ENUM_ISA(name) DS_ISA_##name,
enum { DS_ACTIVATION_none = -1, DS_ACTIVATIONS(DS_ENUM_ACTIVATION) DS_ACTIVATION_COUNT };
enum { DS_LOSSES(DS_ENUM_LOSS) DS_LOSS_COUNT };
enum { DS_OPTIMIZERS(DS_ENUM_OPTIMIZER) DS_OPTIMIZER_COUNT };
enum { DS_ELEMENTARY(DS_ENUM_ELEMENTARY) DS_ELEMENTARY_COUNT };
enum { DS_ISAS(DS_ENUM_ISA) DS_ISA_COUNT };

/* Lanes of every sum over the columns of a row: a constant, so that no sum depends on the width
 * of the machine's vectors. */
enum { DS_LANES = 16 };

/* The most states an optimiser carries along, hyper-parameters it takes, and coefficients it derives
 * from them. */
enum { DS_MAX_STATES = 3, DS_MAX_HYPER = 5, DS_MAX_COEFFICIENTS = 8 };

/* Dropout rates are counted in this unit, as each element takes 16 random bits. */
enum { DS_DROPOUT_ONE = 1 << 16 };

/* ---- The kernels ---- */

/* A row-major block: element (i, j) at data[i * stride + j]. */
typedef struct ds_rows {
  void *data;
  ptrdiff_t stride;
} ds_rows;

/* Called by a product for every finished part, while it is in the first or second level of the caches:
 * tile (rows, cols) holds elements (i..i+rows, j..j+cols) of the product. */
typedef void (*ds_finish_fn)(const void *context, ptrdiff_t i, ptrdiff_t j, ptrdiff_t rows,
                             ptrdiff_t cols, ds_rows tile);

/* c(i, j) = start(i, j) + sum over k of a(i, k) * b(k, j), one FMA chain per element, k ascending.
 * a(i, k) stands at a[i * a_row + k * a_depth] and b(k, j) at b[k * b_depth + j * b_col], where one of
 * an operand's strides is 1: so an operand may be transposed.  Only the part of the rows and columns
 * given is computed.  Without c, b is not transposed. */
typedef struct ds_product {
  ptrdiff_t row_begin, row_end, col_begin, col_end;
  ptrdiff_t depth;
  const void *a;
  ptrdiff_t a_row, a_depth;
  const void *b;
  ptrdiff_t b_depth, b_col;
  const void *start;   /* NULL: zero */
  ptrdiff_t start_row; /* 0: one row for all, a bias; else a block, an earlier part of the sum */
  void *c;             /* NULL: only `finish` sees the tiles */
  ptrdiff_t c_row;
  ds_finish_fn finish; /* NULL: none */
  const void *context;
  void *scratch; /* `product_scratch` elements, on a cache line; not shared with another thread */
} ds_product;

/* y = f(z); z and y may be the same block.  `alpha` is the activation's parameter, if it has one. */
typedef void (*ds_activation_fn)(ptrdiff_t rows, ptrdiff_t cols, ds_rows z, ds_rows y,
                                 double alpha);

/* d = d * f'(z), from the net input z or the output y as the list above says; the other may be
 * NULL.  d: (rows, cols), in place. */
typedef void (*ds_derivative_fn)(ptrdiff_t rows, ptrdiff_t cols, ds_rows z, ds_rows y, ds_rows d,
                                 double alpha);

/* The loss of each row and its gradient, in one pass.
 * output (rows, cols): net inputs or outputs, as the list above says.
 * target: (rows, cols) or (rows, cols / 2) real, or (rows,) int64 with stride 1.
 * weight: (rows,) real, or NULL for one each.
 * parameters: the loss's own, as losses.c says at each; NULL if it has none.
 * row_loss (rows,): weight * loss of the row, in float64; delta (rows, cols), if its data is not NULL:
 * scale * weight * gradient.  delta is another block than output. */
typedef void (*ds_loss_fn)(ptrdiff_t rows, ptrdiff_t cols, ds_rows output, ds_rows target,
                           const void *weight, double scale, const double *parameters,
                           double *row_loss, ds_rows delta);

/* The coefficients (DS_MAX_COEFFICIENTS real) of step number `step` (1, 2, ...) from the
 * hyper-parameters, computed in float64; hyper[0] is the learning rate. */
typedef void (*ds_prepare_fn)(const double *hyper, int64_t step, void *coefficients);

/* One optimiser step on a block (rows, cols) of parameters with row stride `stride`; the states, as
 * many as the list says, are laid out as the parameters are.  An element whose new value or state
 * would not be finite is left as it was; returns 0 if there was none, else 1. */
typedef int (*ds_update_fn)(ptrdiff_t rows, ptrdiff_t cols, ds_rows gradient, void *parameters,
                            void *const *states, ptrdiff_t stride, const void *coefficients);

/* The contexts of the three epilogues in the table. */
typedef struct ds_activation_finish {
  ds_activation_fn activation;
  ds_rows y;
  double alpha;
} ds_activation_finish;

typedef struct ds_derivative_finish {
  ds_derivative_fn derivative;
  ds_rows z, y;
  double alpha;
} ds_derivative_finish;

typedef struct ds_update_finish {
  ds_update_fn update;
  void *parameters, *states[DS_MAX_STATES]; /* NULL: the optimiser has no such state */
  ptrdiff_t stride;
  const void *coefficients;
  double l1, l2;    /* penalties whose gradient is added first */
  double remainder; /* what decay leaves of a parameter, before the step; 1: all */
  int *overflow;    /* set to 1 when `update` returns 1 */
} ds_update_finish;

/* Draws first .. first + DS_DRAWS - 1 of a stream of random numbers (noise.c), `first` a multiple of
 * DS_DRAWS. */
enum { DS_DRAWS = 64 };
typedef void (*ds_draws_fn)(uint64_t seed, uint64_t stream, uint64_t first, uint64_t *bits);

/* A dense layer that one row goes through, and where it leaves its (outputs,), each with room for a
 * vector behind. */
typedef struct ds_row_layer {
  ptrdiff_t inputs, outputs;
  ptrdiff_t
      cols; /* of the activation: the outputs, or up to a whole vector if they are independent */
  ds_activation_fn activation; /* NULL: the outputs are the net inputs, */
  ds_derivative_fn derivative; /* and this is not asked for */
  double alpha;
  void *z, *y, *delta; /* z is y unless the derivative reads z */
} ds_row_layer;

typedef struct ds_row_pass {
  ds_row_layer *layers;
  ptrdiff_t n_layers;
  ds_loss_fn loss;
  const double *loss_parameters;
  int reads_outputs; /* the loss; else the net inputs of the last layer */
} ds_row_pass;

typedef struct ds_kernels {
  int isa;
  int float_bits; /* 32 or 64 */
  int vector;     /* elements of one vector */
  int strip;      /* columns that a product works on at a time */
  void (*product)(const ds_product *product);
  /* The elements of scratch that a product of at most so many rows, columns and depth needs. */
  ptrdiff_t (*product_scratch)(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth);
  ds_finish_fn finish_activation; /* y = f(tile) */
  ds_finish_fn finish_derivative; /* tile = tile * f'(z) */
  ds_finish_fn finish_update;     /* the tile is a gradient */
  /* sums(j) = start(j) + sum over i of block(i, j), rows in order; start may be NULL or sums */
  void (*column_sums)(ptrdiff_t rows, ptrdiff_t cols, ds_rows block, const void *start, void *sums);
  /* The gradients of one row (single.c), laid out as the parameters are: (inputs + 1, outputs) of
   * each layer, weights, then bias; the `vector` elements behind them must exist, and keep their
   * values.  Returns the row's loss; if that is not finite, there are no gradients. */
  double (*row_gradients)(const ds_row_pass *pass, const void *parameters, const void *x,
                          ds_rows target, const void *weight, void *gradients);
  ds_draws_fn random_draws;
  /* Noise of a training step (noise.c): elements first .. first + n of a dropout mask, 0 with
   * probability dropped / DS_DROPOUT_ONE, else the inverse of what is left, DS_DROPOUT_ONE /
   * (DS_DROPOUT_ONE - dropped); */
  void (*dropout_mask)(uint64_t seed, uint64_t stream, uint64_t first, ptrdiff_t n, int dropped,
                       void *mask);
  /* y = x * mask, element by element; y and x may be one block; */
  void (*multiply)(ptrdiff_t rows, ptrdiff_t cols, ds_rows x, ds_rows mask, ds_rows y);
  /* y = x + deviation * normal, where element (i, j) takes number first + i * cols + j of the
   * stream; y and x may be one block. */
  void (*add_normal)(uint64_t seed, uint64_t stream, uint64_t first, ptrdiff_t rows, ptrdiff_t cols,
                     ds_rows x, double deviation, ds_rows y);
  ds_activation_fn activations[DS_ACTIVATION_COUNT];
  ds_derivative_fn derivatives[DS_ACTIVATION_COUNT];
  ds_loss_fn losses[DS_LOSS_COUNT];
  ds_prepare_fn prepares[DS_OPTIMIZER_COUNT];
  ds_update_fn updates[DS_OPTIMIZER_COUNT];
  /* l1 times the sum of |p| plus l2 times that of p^2 over n parameters p, in float64; `factor` times its
   * gradient by them is added to gradient (n,), unless that is NULL. */
  double (*penalize)(ptrdiff_t n, const void *parameters, double l1, double l2, void *gradient,
                     double factor);
  void (*scale)(ptrdiff_t rows, ptrdiff_t cols, ds_rows block, double factor);
  /* Each of n values into -limit .. limit. */
  void (*clip)(ptrdiff_t n, void *values, double limit);
  /* The sum of x^2 over n values x, in float64. */
  double (*sum_of_squares)(ptrdiff_t n, const void *values);
  /* Columns whose Euclidean norm is above the limit are scaled down to it. */
  void (*limit_columns)(ptrdiff_t rows, ptrdiff_t cols, ds_rows block, double limit);
  /* means = momentum * means + (1 - momentum) * values */
  void (*average)(ptrdiff_t n, const void *values, void *means, double momentum);
  void (*elementary[DS_ELEMENTARY_COUNT])(ptrdiff_t n, const void *x, void *y);
  /* The first row that holds NaN or infinity, or -1. */
  ptrdiff_t (*first_not_finite)(ptrdiff_t rows, ptrdiff_t cols, ds_rows block);
  /* Chains of FMAs that wait for nothing but each other; returns how many FMAs that was.
   * sum: (vector,), the sum of what they come to. */
  ptrdiff_t (*fma_chains)(ptrdiff_t length, void *sum);
} ds_kernels;

/* ---- Dispatch ---- */

/* Name of an instruction set, or NULL for a code out of range. */
const char *ds_isa_name(int isa);
/* 1 if this build holds the kernels of `isa` and the CPU (and its operating system) runs them. */
int ds_isa_available(int isa);
/* The widest available instruction set. */
int ds_isa_best(void);
/* The table of `isa` for 32 or 64 bits, or NULL if it is not available. */
const ds_kernels *ds_get_kernels(int isa, int float_bits);

/* ---- Rows of a data set (rows.c) ---- */

/* Rows order[0], order[1], ... of a block; order NULL: in sequence.  All in bytes, row_bytes a
 * multiple of 4. */
typedef struct ds_gather {
  const void *source;
  ptrdiff_t source_stride, row_bytes;
  const int64_t *order;
} ds_gather;

/* The first `rows` of them, one below the other. */
void ds_gather_rows(const ds_gather *gather, ptrdiff_t rows, void *target, ptrdiff_t target_stride);

/* ---- The thread pool ---- */

enum { DS_MAX_THREADS = 256 };

/* Part `part` of `parts` of some work; parts share nothing that they write. */
typedef void (*ds_task_fn)(void *context, int part, int parts);

/* Run task(context, p, parts) for p = 0 .. parts - 1 and return when all are done.  Part 0 runs on
 * the calling thread.  When the pool is in use by another caller, or a thread can not be made,
 * the caller runs the parts itself: slower, with the same result. */
void ds_parallel(ds_task_fn task, void *context, int parts);

/* Threads that the pool holds now (none before the first use, and none in a forked child). */
int ds_pool_size(void);

/* The number of threads that calls use unless they say otherwise; 0: not set yet.  Only these two
 * are visible outside the library, for programs that steer the threads of all libraries of a process
 * (threadpoolctl). */
#define DS_EXPORT __attribute__((visibility("default")))
DS_EXPORT int downslope_get_num_threads(void);
DS_EXPORT void downslope_set_num_threads(int threads);

/* ---- Random numbers (random.c): element i of a stream is a function of (seed, stream, i) ----
 *
 * `make` is the `random_draws` of any table. */

/* Uniform in [0, 1), 53 bits each. */
void ds_random_uniform(ds_draws_fn make, uint64_t seed, uint64_t stream, ptrdiff_t n, double *out);
/* Standard normal. */
void ds_random_normal(ds_draws_fn make, uint64_t seed, uint64_t stream, ptrdiff_t n, double *out);
/* Integers drawn uniformly from 0 .. bound - 1, with replacement. */
void ds_random_integers(ds_draws_fn make, uint64_t seed, uint64_t stream, int64_t bound,
                        ptrdiff_t n, int64_t *out);
/* A random order of 0 .. n - 1. */
void ds_random_permutation(ds_draws_fn make, uint64_t seed, uint64_t stream, ptrdiff_t n,
                           int64_t *out);

/* ---- Orthonormal columns (orthogonal.c) ---- */

/* One step of a Gram-Schmidt process on a (rows, cols), row-major, rows >= cols: column `column`
 * gets length 1, and all columns after it become orthogonal to it.  work: (cols,). */
void ds_orthogonalize_column(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t column, double *a,
                             double *work);

#endif
