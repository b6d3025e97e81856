/* random.c: random numbers as functions of (seed, stream, i), without a state to carry or to save.
 *
 * The generator is that of philox.h, in the instruction set of the kernel table (`random_draws`): draw i
 * of a stream is 64 bits.
 *
 * Numeric contract: every result is the same to the bit on every machine.  Floating point is plain
 * IEEE + - * / and square root, compiled without contraction, and the logarithm is our own. */
#include <math.h>
#include <string.h>

#include "downslope.h"

/* ---- Draws ---- */

typedef struct draws {
  ds_draws_fn make;
  uint64_t seed, stream;
  uint64_t bits[DS_DRAWS]; /* the last draws made; bits[i % DS_DRAWS] is draw i */
} draws;

/* Draw i of the stream; they are asked for one after the other, from the first on. */
static inline uint64_t draw(draws *d, ptrdiff_t i) {
  const uint64_t place = (uint64_t)i % DS_DRAWS;
  if (place == 0) d->make(d->seed, d->stream, (uint64_t)i, d->bits);
  return d->bits[place];
}

/* ---- From 64 random bits to a distribution ---- */

/* Of 0 .. bound - 1 by the high half of a product, without rejection: a result's probability
 * differs from 1 / bound by less than 2^-64. */
static inline int64_t below(uint64_t bits, uint64_t bound) {
  return (int64_t)((unsigned __int128)bits * bound >> 64);
}

static inline double horner(const double *coefficients, int n, double x) {
  double sum = coefficients[n - 1];
  for (int i = n - 2; i >= 0; --i) sum = sum * x + coefficients[i];
  return sum;
}

/* Natural logarithm of a normal 0 < x < 1/2, within 1.5 ULP.
 * x = 2^e m with m in [sqrt(1/2), sqrt(2)), and log m = 2 atanh s with s = (m - 1) / (m + 1), by
 * its Taylor series: s^2 < 0.0295, so eleven terms reach float64. */
static double log_small(double x) {
  static const double atanh_series[] = {1.0,        1.0 / 3.0,  1.0 / 5.0,  1.0 / 7.0,
                                        1.0 / 9.0,  1.0 / 11.0, 1.0 / 13.0, 1.0 / 15.0,
                                        1.0 / 17.0, 1.0 / 19.0, 1.0 / 21.0};
  const uint64_t sqrt_half = UINT64_C(0x3FE6A09E667F3BCD), fraction = UINT64_C(0xFFFFFFFFFFFFF);
  const double log_2 = 0x1.62e42fefa39efp-1;
  uint64_t bits, m_bits;
  double m;
  memcpy(&bits, &x, sizeof bits);
  /* Counted from sqrt(1/2), the exponent is e and the fraction is that of m. */
  bits -= sqrt_half;
  int64_t e = (int64_t)bits >> 52;
  m_bits = (bits & fraction) + sqrt_half;
  memcpy(&m, &m_bits, sizeof m);
  double s = (m - 1.0) / (m + 1.0);
  return (double)e * log_2 + 2.0 * s * horner(atanh_series, 11, s * s);
}

/* The quantile p of the standard normal distribution, 0 < p < 1, with a relative error below
 * 1e-15: PPND16 of M. J. Wichura, "Algorithm AS 241: the percentage points of the normal
 * distribution", Applied Statistics 37 (1988). */
static double normal_quantile(double p) {
  static const double a[] = {3.3871328727963666080e0,  1.3314166789178437745e+2,
                             1.9715909503065514427e+3, 1.3731693765509461125e+4,
                             4.5921953931549871457e+4, 6.7265770927008700853e+4,
                             3.3430575583588128105e+4, 2.5090809287301226727e+3};
  static const double b[] = {1.0000000000000000000e0,  4.2313330701600911252e+1,
                             6.8718700749205790830e+2, 5.3941960214247511077e+3,
                             2.1213794301586595867e+4, 3.9307895800092710610e+4,
                             2.8729085735721942674e+4, 5.2264952788528545610e+3};
  static const double c[] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                             5.76949722146069140550e0,  3.64784832476320460504e0,
                             1.27045825245236838258e0,  2.41780725177450611770e-1,
                             2.27238449892691845833e-2, 7.74545014278341407640e-4};
  static const double d[] = {1.0000000000000000000e0,   2.05319162663775882187e0,
                             1.67638483018380384940e0,  6.89767334985100004550e-1,
                             1.48103976427480074590e-1, 1.51986665636164571966e-2,
                             5.47593808499534494600e-4, 1.05075007164441684324e-9};
  static const double e[] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                             1.78482653991729133580e0,  2.96560571828504891230e-1,
                             2.65321895265761230930e-2, 1.24266094738807843860e-3,
                             2.71155556874348757815e-5, 2.01033439929228813265e-7};
  static const double f[] = {1.0000000000000000000e0,   5.99832206555887937690e-1,
                             1.36929880922735805310e-1, 1.48753612908506148525e-2,
                             7.86869131145613259100e-4, 1.84631831751005468180e-5,
                             1.42151175831644588870e-7, 2.04426310338993978564e-15};
  double q = p - 0.5;
  if (fabs(q) <= 0.425) {
    double r = 0.180625 - q * q;
    return q * horner(a, 8, r) / horner(b, 8, r);
  }
  double r = sqrt(-log_small(q < 0.0 ? p : 1.0 - p));
  double x = r <= 5.0 ? horner(c, 8, r - 1.6) / horner(d, 8, r - 1.6)
                      : horner(e, 8, r - 5.0) / horner(f, 8, r - 5.0);
  return q < 0.0 ? -x : x;
}

/* ---- The public functions ---- */

void ds_random_uniform(ds_draws_fn make, uint64_t seed, uint64_t stream, ptrdiff_t n, double *out) {
  draws d = {.make = make, .seed = seed, .stream = stream};
  for (ptrdiff_t i = 0; i < n; ++i) out[i] = (double)(draw(&d, i) >> 11) * 0x1p-53;
}

/* The quantile of (k + 1/2) 2^-52, k the draw's high 52 bits: exact, symmetric, never 0 or 1. */
void ds_random_normal(ds_draws_fn make, uint64_t seed, uint64_t stream, ptrdiff_t n, double *out) {
  draws d = {.make = make, .seed = seed, .stream = stream};
  for (ptrdiff_t i = 0; i < n; ++i) {
    out[i] = normal_quantile(((double)(draw(&d, i) >> 12) + 0.5) * 0x1p-52);
  }
}

void ds_random_integers(ds_draws_fn make, uint64_t seed, uint64_t stream, int64_t bound,
                        ptrdiff_t n, int64_t *out) {
  draws d = {.make = make, .seed = seed, .stream = stream};
  for (ptrdiff_t i = 0; i < n; ++i) out[i] = below(draw(&d, i), (uint64_t)bound);
}

/* Fisher and Yates, inside out: draw i puts i into one of the places 0 .. i, and what stood there
 * goes to place i. */
void ds_random_permutation(ds_draws_fn make, uint64_t seed, uint64_t stream, ptrdiff_t n,
                           int64_t *out) {
  uint64_t bits[DS_DRAWS];
  for (ptrdiff_t first = 0; first < n; first += DS_DRAWS) {
    const ptrdiff_t end = n - first < DS_DRAWS ? n : first + DS_DRAWS;
    make(seed, stream, (uint64_t)first, bits);
    for (ptrdiff_t i = first; i < end; ++i) {
      const int64_t place = below(bits[i - first], (uint64_t)i + 1);
      out[i] = out[place];
      out[place] = i;
    }
  }
}
