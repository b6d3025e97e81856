/* table.c: the kernel table of one instruction set and float type, filled from the lists of
 * downslope.h. */
#include "kernels.h"

#define DECLARE_ACTIVATION(name, reads, shape)                                     \
  void DS_NAME(activation_##name)(ptrdiff_t, ptrdiff_t, ds_rows, ds_rows, double); \
  void DS_NAME(derivative_##name)(ptrdiff_t, ptrdiff_t, ds_rows, ds_rows, ds_rows, double);
#define DECLARE_LOSS(name, output, targets)                                               \
  void DS_NAME(loss_##name)(ptrdiff_t, ptrdiff_t, ds_rows, ds_rows, const void *, double, \
                            const double *, double *, ds_rows);
#define DECLARE_OPTIMIZER(name, states)                                                       \
  void DS_NAME(prepare_##name)(const double *, int64_t, void *);                              \
  int DS_NAME(update_##name)(ptrdiff_t, ptrdiff_t, ds_rows, void *, void *const *, ptrdiff_t, \
                             const void *);
#define DECLARE_ELEMENTARY(name) void DS_NAME(elementary_##name)(ptrdiff_t, const void *, void *);
DS_ACTIVATIONS(DECLARE_ACTIVATION)
DS_LOSSES(DECLARE_LOSS)
DS_OPTIMIZERS(DECLARE_OPTIMIZER)
DS_ELEMENTARY(DECLARE_ELEMENTARY)
void DS_NAME(product)(const ds_product *);
void DS_NAME(finish_activation)(const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ds_rows);
void DS_NAME(finish_derivative)(const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ds_rows);
void DS_NAME(finish_update)(const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ds_rows);
ptrdiff_t DS_NAME(product_scratch)(ptrdiff_t, ptrdiff_t, ptrdiff_t);
void DS_NAME(column_sums)(ptrdiff_t, ptrdiff_t, ds_rows, const void *, void *);
double DS_NAME(penalize)(ptrdiff_t, const void *, double, double, void *, double);
void DS_NAME(scale)(ptrdiff_t, ptrdiff_t, ds_rows, double);
void DS_NAME(clip)(ptrdiff_t, void *, double);
double DS_NAME(sum_of_squares)(ptrdiff_t, const void *);
void DS_NAME(limit_columns)(ptrdiff_t, ptrdiff_t, ds_rows, double);
void DS_NAME(average)(ptrdiff_t, const void *, void *, double);
double DS_NAME(row_gradients)(const ds_row_pass *, const void *, const void *, ds_rows,
                              const void *, void *);
void DS_NAME(random_draws)(uint64_t, uint64_t, uint64_t, uint64_t *);
void DS_NAME(dropout_mask)(uint64_t, uint64_t, uint64_t, ptrdiff_t, int, void *);
void DS_NAME(multiply)(ptrdiff_t, ptrdiff_t, ds_rows, ds_rows, ds_rows);
void DS_NAME(add_normal)(uint64_t, uint64_t, uint64_t, ptrdiff_t, ptrdiff_t, ds_rows, double,
                         ds_rows);
ptrdiff_t DS_NAME(first_not_finite)(ptrdiff_t, ptrdiff_t, ds_rows);
ptrdiff_t DS_NAME(fma_chains)(ptrdiff_t, void *);

#define ACTIVATION(name, reads, shape) [DS_ACTIVATION_##name] = DS_NAME(activation_##name),
#define DERIVATIVE(name, reads, shape) [DS_ACTIVATION_##name] = DS_NAME(derivative_##name),
#define LOSS(name, output, targets) [DS_LOSS_##name] = DS_NAME(loss_##name),
#define PREPARE(name, states) [DS_OPTIMIZER_##name] = DS_NAME(prepare_##name),
#define UPDATE(name, states) [DS_OPTIMIZER_##name] = DS_NAME(update_##name),
#define ELEMENTARY(name) [DS_ELEMENTARY_##name] = DS_NAME(elementary_##name),

#define ISA_PASTE(isa) DS_ISA_##isa
#define ISA_CODE(isa) ISA_PASTE(isa)

const ds_kernels DS_NAME(kernels) = {
    .isa = ISA_CODE(DS_ISA_NAME),
    .float_bits = DS_FLOAT_BITS,
    .vector = VEC,
    .strip = STRIP,
    .product = DS_NAME(product),
    .finish_activation = DS_NAME(finish_activation),
    .finish_derivative = DS_NAME(finish_derivative),
    .finish_update = DS_NAME(finish_update),
    .product_scratch = DS_NAME(product_scratch),
    .column_sums = DS_NAME(column_sums),
    .row_gradients = DS_NAME(row_gradients),
    .random_draws = DS_NAME(random_draws),
    .dropout_mask = DS_NAME(dropout_mask),
    .multiply = DS_NAME(multiply),
    .add_normal = DS_NAME(add_normal),
    .activations = {DS_ACTIVATIONS(ACTIVATION)},
    .derivatives = {DS_ACTIVATIONS(DERIVATIVE)},
    .losses = {DS_LOSSES(LOSS)},
    .prepares = {DS_OPTIMIZERS(PREPARE)},
    .updates = {DS_OPTIMIZERS(UPDATE)},
    .penalize = DS_NAME(penalize),
    .scale = DS_NAME(scale),
    .clip = DS_NAME(clip),
    .sum_of_squares = DS_NAME(sum_of_squares),
    .limit_columns = DS_NAME(limit_columns),
    .average = DS_NAME(average),
    .elementary = {DS_ELEMENTARY(ELEMENTARY)},
    .first_not_finite = DS_NAME(first_not_finite),
    .fma_chains = DS_NAME(fma_chains),
};
