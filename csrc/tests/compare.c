/* compare.c: the kernels of one table over many shapes, one line each: its name and a hash.
 *
 * compare.sh compiles it with the kernel files for each instruction set; the lines must not differ.
 * The numbers are made without the C library, whose functions differ from machine to machine.  All
 * blocks end where readable memory ends, so that a kernel that touches more is caught. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../kernels/kernels.h"

extern const ds_kernels DS_NAME(kernels);
#define TABLE DS_NAME(kernels)

/* ---- Numbers ---- */

static uint64_t random_state;

static uint64_t random_bits(void) { /* xorshift64* */
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return random_state * 2685821657736338717u;
}

/* Uniform in (-range, range). */
static real uniform(double range) {
  return (real)(((double)(random_bits() >> 11) * 0x1p-52 - 1) * range);
}

/* Of any magnitude and class. */
static real anything(void) {
  static const double special[] = {0.0, -0.0, 1, -1, 0x1p-140, -0x1p-1060, INFINITY, NAN};
  const unsigned kind = random_bits() >> 40;
  switch (kind % 8) {
    case 0:
      return (real)special[kind / 8 % 8];
    case 1:
      return (real)-special[kind / 8 % 8];
    case 2:
      return (real)ldexp(uniform(1), (int)(kind / 8 % 2048) - 1024);
    case 3:
      return uniform(800);
    default:
      return uniform(8);
  }
}

/* ---- Memory: blocks of reals before a page that must not be touched ---- */

enum { PAGE = 65536 };

static real *new_block(ptrdiff_t n) {
  const size_t size = ((size_t)n * sizeof(real) / PAGE + 1) * PAGE;
  char *start = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED || mprotect(start + size, PAGE, PROT_NONE) != 0) {
    perror("mmap");
    exit(1);
  }
  return (real *)(start + size) - n;
}

static void free_block(real *block, ptrdiff_t n) {
  const size_t size = ((size_t)n * sizeof(real) / PAGE + 1) * PAGE;
  munmap((char *)(block + n) - size, size + PAGE);
}

/* A block (rows, cols) of uniform numbers; the elements between its rows hold such numbers too. */
static ds_rows new_rows(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t stride, double range) {
  const ptrdiff_t n = (rows - 1) * stride + cols;
  ds_rows block = {new_block(n), stride};
  for (ptrdiff_t i = 0; i < n; i++) ((real *)block.data)[i] = uniform(range);
  return block;
}

static void free_rows(ds_rows block, ptrdiff_t rows, ptrdiff_t cols) {
  free_block(block.data, (rows - 1) * block.stride + cols);
}

/* ---- Hashes: FNV-1a over the bits, any NaN counting as the same ---- */

typedef uint64_t hash;
static const hash EMPTY = 14695981039346656037u;

static void add_bits(hash *h, uint64_t bits) { *h = (*h ^ bits) * 1099511628211u; }

static void add_double(hash *h, double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  add_bits(h, x == x ? bits : 1);
}

/* The whole block, with what lies between its rows. */
static void add_rows(hash *h, ds_rows block, ptrdiff_t rows, ptrdiff_t cols) {
  for (ptrdiff_t i = 0; i < (rows - 1) * block.stride + cols; i++)
    add_double(h, ((real *)block.data)[i]);
}

static void print_hash(const char *family, const char *name, hash h) {
  printf("%s %s %016llx\n", family, name, (unsigned long long)h);
}

/* ---- The kernels ---- */

/* Rows of 1 .. MOST columns: ragged ends of every vector and more than one round of DS_LANES. */
enum { ROWS = 5, MOST = 37, GAP = 3, MANY = 1 << 18 };

static void compare_elementary(const char *name, int code) {
  hash h = EMPTY;
  real *x = new_block(MANY), *y = new_block(MANY);
  for (ptrdiff_t i = 0; i < MANY; i++) x[i] = anything();
  for (ptrdiff_t n = 0; n < MOST; n++) {
    TABLE.elementary[code](n, x + MANY - n, y + MANY - n);
    add_rows(&h, (ds_rows){y + MANY - n, n}, 1, n);
  }
  TABLE.elementary[code](MANY, x, y);
  add_rows(&h, (ds_rows){y, MANY}, 1, MANY);
  print_hash("elementary", name, h);
  free_block(x, MANY);
  free_block(y, MANY);
}

static void compare_activation(const char *name, int code) {
  hash h = EMPTY;
  for (ptrdiff_t cols = 1; cols <= MOST; cols++)
    for (ptrdiff_t gap = 0; gap <= GAP; gap += GAP)
      for (int wild = 0; wild < 2; wild++) {
        ds_rows z = new_rows(ROWS, cols, cols + gap, 8);
        ds_rows y = new_rows(ROWS, cols, cols + gap, 8);
        ds_rows d = new_rows(ROWS, cols, cols + gap, 1);
        if (wild)
          for (ptrdiff_t j = 0; j < cols; j++) ((real *)z.data)[j] = anything();
        TABLE.activations[code](ROWS, cols, z, y, 0.3);
        TABLE.derivatives[code](ROWS, cols, z, y, d, 0.3);
        TABLE.activations[code](ROWS, cols, z, z, 0.3);
        add_rows(&h, z, ROWS, cols);
        add_rows(&h, y, ROWS, cols);
        add_rows(&h, d, ROWS, cols);
        free_rows(z, ROWS, cols);
        free_rows(y, ROWS, cols);
        free_rows(d, ROWS, cols);
      }
  print_hash("activation", name, h);
}

/* Targets are indicators where they are dense, so that every loss is defined; the parameters are
 * within the bounds of every loss's. */
static void compare_loss(const char *name, int code, int labels) {
  hash h = EMPTY;
  for (ptrdiff_t cols = 1; cols <= MOST; cols++) {
    ds_rows output = new_rows(ROWS, cols, cols + GAP, 30);
    ds_rows target = new_rows(ROWS, cols, cols, 1);
    ds_rows delta = new_rows(ROWS, cols, cols + GAP, 1);
    ds_rows weight = new_rows(1, ROWS, ROWS, 1);
    int64_t label[ROWS];
    double row_loss[ROWS], parameters[MOST];
    for (ptrdiff_t j = 0; j < MOST; j++) parameters[j] = 0.25;
    for (ptrdiff_t i = 0; i < ROWS; i++) {
      label[i] = (int64_t)(random_bits() % (uint64_t)cols);
      for (ptrdiff_t j = 0; j < cols; j++)
        ((real *)target.data)[i * cols + j] = j == label[i] ? 1 : 0;
    }
    const ds_rows given = labels ? (ds_rows){label, 1} : target;
    TABLE.losses[code](ROWS, cols, output, given, weight.data, 0.2, parameters, row_loss, delta);
    for (int i = 0; i < ROWS; i++) add_double(&h, row_loss[i]);
    add_rows(&h, delta, ROWS, cols);
    free_rows(output, ROWS, cols);
    free_rows(target, ROWS, cols);
    free_rows(delta, ROWS, cols);
    free_rows(weight, 1, ROWS);
  }
  print_hash("loss", name, h);
}

static void compare_optimizer(const char *name, int code) {
  enum { BLOCKS = 1 + DS_MAX_STATES };
  static const double hyper[DS_MAX_HYPER] = {0.01, 0.9, 0.999, 1e-8, 0.99};
  hash h = EMPTY;
  for (ptrdiff_t cols = 1; cols <= MOST; cols++) {
    real coefficients[DS_MAX_COEFFICIENTS] = {0};
    ds_rows gradient = new_rows(ROWS, cols, cols + GAP, 1), block[BLOCKS];
    void *states[DS_MAX_STATES];
    for (int k = 0; k < BLOCKS; k++) block[k] = new_rows(ROWS, cols, cols + 1, 1);
    for (int k = 0; k < DS_MAX_STATES; k++) states[k] = block[1 + k].data;
    for (int k = 1; k < BLOCKS; k++) /* means of squares are not negative */
      for (ptrdiff_t i = 0; i < (ROWS - 1) * (cols + 1) + cols; i++)
        ((real *)block[k].data)[i] *= ((real *)block[k].data)[i];
    TABLE.prepares[code](hyper, 7, coefficients);
    for (int huge = 0; huge < 2; huge++) {
      if (huge) ((real *)gradient.data)[0] = DS_FLOAT_BITS == 32 ? (real)FLT_MAX : (real)DBL_MAX;
      add_bits(&h, (uint64_t)TABLE.updates[code](ROWS, cols, gradient, block[0].data, states,
                                                 cols + 1, coefficients));
      for (int k = 0; k < BLOCKS; k++) add_rows(&h, block[k], ROWS, cols);
    }
    free_rows(gradient, ROWS, cols);
    for (int k = 0; k < BLOCKS; k++) free_rows(block[k], ROWS, cols);
  }
  print_hash("optimizer", name, h);
}

static void compare_treatment(void) {
  hash h = EMPTY;
  for (ptrdiff_t cols = 1; cols <= MOST; cols++) {
    ds_rows x = new_rows(ROWS, cols, cols, 1), y = new_rows(ROWS, cols, cols, 1);
    add_double(&h, TABLE.penalize(ROWS * cols, y.data, 0.1, 0.2, x.data, 0.5));
    add_double(&h, TABLE.penalize(ROWS * cols, y.data, 0, 0.2, x.data, 0.5));
    TABLE.limit_columns(ROWS, cols, x, 0.9);
    TABLE.clip(cols, y.data, 0.3);
    TABLE.scale(ROWS, cols, y, 0.7);
    TABLE.average(ROWS * cols, x.data, y.data, 0.9);
    add_double(&h, TABLE.sum_of_squares(ROWS * cols, y.data));
    add_rows(&h, x, ROWS, cols);
    add_rows(&h, y, ROWS, cols);
    free_rows(x, ROWS, cols);
    free_rows(y, ROWS, cols);
  }
  print_hash("treatment", "all", h);
}

/* What a product does with its sums: they stay in c, or an epilogue takes them. */
enum { STORED, ACTIVATED, DERIVED, UPDATED, ENDINGS };

/* One product, in two parts of its rows as two threads would make it, with each epilogue. */
static void multiply(hash *h, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth, int transposed_a,
                     int transposed_b) {
  static const double hyper[DS_MAX_HYPER] = {0.01, 0.9, 0.999, 1e-8};
  const ptrdiff_t steps = depth > 0 ? depth : 1;
  const ptrdiff_t a_rows = transposed_a ? steps : rows, a_cols = transposed_a ? rows : steps;
  const ptrdiff_t b_rows = transposed_b ? cols : steps, b_cols = transposed_b ? steps : cols;
  const ptrdiff_t scratch_size = TABLE.product_scratch(rows, cols, depth);
  ds_rows a = new_rows(a_rows, a_cols, a_cols + 2, 1);
  ds_rows b = new_rows(b_rows, b_cols, b_cols + GAP, 1);
  void *const scratch = new_block(scratch_size);
  ds_rows bias = new_rows(1, cols, cols, 1), block[4];
  for (int ending = 0; ending < (transposed_b ? UPDATED : ENDINGS); ending++) {
    real coefficients[DS_MAX_COEFFICIENTS] = {0};
    int overflow = 0;
    for (int k = 0; k < 4; k++) block[k] = new_rows(rows, cols, cols + GAP, 0.5);
    for (ptrdiff_t i = 0; i < (rows - 1) * (cols + GAP) + cols; i++) /* Adam's v is not negative */
      ((real *)block[3].data)[i] += 1;
    TABLE.prepares[DS_OPTIMIZER_adam](hyper, 7, coefficients);
    const ds_activation_finish activated = {TABLE.activations[DS_ACTIVATION_gelu], block[1], 0};
    const ds_derivative_finish derived = {TABLE.derivatives[DS_ACTIVATION_gelu], block[1], block[2],
                                          0};
    const ds_update_finish updated = {TABLE.updates[DS_OPTIMIZER_adam],
                                      block[1].data,
                                      {block[2].data, block[3].data},
                                      cols + GAP,
                                      coefficients,
                                      0,
                                      0,
                                      1,
                                      &overflow};
    const ds_finish_fn finish[ENDINGS] = {NULL, TABLE.finish_activation, TABLE.finish_derivative,
                                          TABLE.finish_update};
    const void *const contexts[ENDINGS] = {NULL, &activated, &derived, &updated};
    ds_product product = {.col_end = cols,
                          .depth = depth,
                          .a = a.data,
                          .a_row = transposed_a ? 1 : a.stride,
                          .a_depth = transposed_a ? a.stride : 1,
                          .b = b.data,
                          .b_depth = transposed_b ? 1 : b.stride,
                          .b_col = transposed_b ? b.stride : 1,
                          .start = ending == UPDATED ? NULL : bias.data,
                          .c = ending == UPDATED ? NULL : block[0].data,
                          .c_row = block[0].stride,
                          .finish = finish[ending],
                          .context = contexts[ending],
                          .scratch = scratch};
    for (int part = 0; part < 2; part++) {
      product.row_begin = rows * part / 2;
      product.row_end = rows * (part + 1) / 2;
      TABLE.product(&product);
    }
    add_bits(h, (uint64_t)overflow);
    for (int k = 0; k < 4; k++) {
      add_rows(h, block[k], rows, cols);
      free_rows(block[k], rows, cols);
    }
  }
  free_rows(a, a_rows, a_cols);
  free_rows(b, b_rows, b_cols);
  free_rows(bias, 1, cols);
  free_block(scratch, scratch_size);
}

/* Ragged shapes, and some that are cut into blocks of the depth and of the rows. */
static void compare_product(void) {
  static const ptrdiff_t large[][3] = {{61, 70, 300}, {25, 131, 601}, {401, 35, 60}, {3, 1, 2000},
                                       {7, 2100, 3},  {97, 1, 601},   {70, 65, 45},  {7, 2100, 3}};
  static const char *const names[] = {"product", "product_of_transposed_a",
                                      "product_of_transposed_b", "product_of_both_transposed"};
  for (int which = 0; which < 4; which++) {
    hash h = EMPTY;
    for (ptrdiff_t rows = 1; rows <= 15; rows += 2)
      for (ptrdiff_t cols = 1; cols <= 4 * MOST; cols += which ? 7 : 3)
        multiply(&h, rows, cols, (rows * 7 + cols) % 40, which & 1, which >> 1);
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
      multiply(&h, large[i][0], large[i][1], large[i][2], which & 1, which >> 1);
    print_hash("matrix", names[which], h);
  }
}

/* Two layers, each `width` wide, with room behind what a row leaves. */
static void compare_row_gradients(void) {
  enum { LAYERS = 2, ROOM = 16 };
  hash h = EMPTY;
  for (ptrdiff_t width = 1; width <= MOST; width++)
    for (ptrdiff_t inputs = 1; inputs <= MOST; inputs += 9) {
      const ptrdiff_t n = (inputs + 1 + width + 1) * width, room = width + ROOM;
      const ptrdiff_t cols = (width + VEC - 1) / VEC * VEC;
      ds_rows parameters = new_rows(1, n, n, 1), x = new_rows(1, inputs, inputs, 1);
      ds_rows target = new_rows(1, width, width, 1), gradients = new_rows(1, n + ROOM, n + ROOM, 1);
      ds_rows z = new_rows(LAYERS, room, room, 1), y = new_rows(LAYERS, room, room, 1);
      ds_rows delta = new_rows(LAYERS, room, room, 1);
      ds_row_layer layers[LAYERS];
      for (int l = 0; l < LAYERS; l++)
        layers[l] = (ds_row_layer){.inputs = l ? width : inputs,
                                   .outputs = width,
                                   .cols = cols,
                                   .activation = TABLE.activations[DS_ACTIVATION_gelu],
                                   .derivative = TABLE.derivatives[DS_ACTIVATION_gelu],
                                   .z = ds_row(z, l),
                                   .y = ds_row(y, l),
                                   .delta = ds_row(delta, l)};
      for (int reads_outputs = 0; reads_outputs < 2; reads_outputs++) {
        const ds_row_pass pass = {layers, LAYERS, TABLE.losses[DS_LOSS_mse], NULL, reads_outputs};
        add_double(
            &h, TABLE.row_gradients(&pass, parameters.data, x.data, target, NULL, gradients.data));
        add_rows(&h, gradients, 1, n);
      }
      free_rows(parameters, 1, n);
      free_rows(x, 1, inputs);
      free_rows(target, 1, width);
      free_rows(gradients, 1, n + ROOM);
      free_rows(z, LAYERS, room);
      free_rows(y, LAYERS, room);
      free_rows(delta, LAYERS, room);
    }
  print_hash("matrix", "row_gradients", h);
}

static void compare_first_not_finite(void) {
  hash h = EMPTY;
  for (ptrdiff_t cols = 1; cols <= MOST; cols++)
    for (ptrdiff_t row = 0; row <= ROWS; row++) {
      ds_rows block = new_rows(ROWS, cols, cols + GAP, 1);
      if (row < ROWS) ((real *)block.data)[row * block.stride + cols - 1] = (real)INFINITY;
      add_bits(&h, (uint64_t)TABLE.first_not_finite(ROWS, cols, block));
      free_rows(block, ROWS, cols);
    }
  print_hash("matrix", "first_not_finite", h);
}

static void compare_column_sums(void) {
  hash h = EMPTY;
  for (ptrdiff_t rows = 1; rows <= MOST; rows += 2)
    for (ptrdiff_t cols = 1; cols <= MOST; cols++) {
      ds_rows source = new_rows(rows, cols, cols + GAP, 1);
      ds_rows sums = new_rows(1, cols, cols, 1);
      TABLE.column_sums(rows, cols, source, sums.data, sums.data);
      add_rows(&h, sums, 1, cols);
      free_rows(source, rows, cols);
      free_rows(sums, 1, cols);
    }
  print_hash("matrix", "column_sums", h);
}

static void compare_noise(void) {
  hash h = EMPTY;
  const uint64_t seed = 12345, stream = (uint64_t)4 << 48, first = ((uint64_t)3 << 48) + 1000;
  for (ptrdiff_t cols = 1; cols <= 4 * MOST; cols += 3) {
    ds_rows mask = new_rows(ROWS, cols, cols, 1), x = new_rows(ROWS, cols, cols + GAP, 1);
    TABLE.add_normal(seed, stream, first, ROWS, cols, x, 0.3, x);
    TABLE.dropout_mask(seed, stream, first, ROWS * cols, 10000, mask.data);
    TABLE.multiply(ROWS, cols, x, mask, x);
    add_rows(&h, mask, ROWS, cols);
    add_rows(&h, x, ROWS, cols);
    free_rows(mask, ROWS, cols);
    free_rows(x, ROWS, cols);
  }
  print_hash("noise", "dropout", h);
}

#define ELEMENTARY(name) random_state = 1, compare_elementary(#name, DS_ELEMENTARY_##name);
#define ACTIVATION(name, reads, shape) \
  random_state = 1, compare_activation(#name, DS_ACTIVATION_##name);
#define LOSS(name, output, targets) \
  random_state = 1, compare_loss(#name, DS_LOSS_##name, DS_TARGETS_##targets == DS_TARGETS_LABELS);
#define OPTIMIZER(name, states) random_state = 1, compare_optimizer(#name, DS_OPTIMIZER_##name);

int main(void) {
  DS_ELEMENTARY(ELEMENTARY)
  DS_ACTIVATIONS(ACTIVATION)
  DS_LOSSES(LOSS)
  DS_OPTIMIZERS(OPTIMIZER)
  random_state = 1;
  compare_treatment();
  compare_product();
  compare_row_gradients();
  compare_first_not_finite();
  compare_column_sums();
  compare_noise();
  return 0;
}
