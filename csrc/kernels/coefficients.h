/* coefficients.h: written by csrc/tools/fit_polynomials.py; do not edit.
 *
 * Polynomials c[0] + c[1] x + c[2] x^2 + ... and constants of elementary.h.  Beside each
 * polynomial, its greatest error relative to the function that is computed from it. */
/* clang-format off: a coefficient a line */
#ifndef DS_COEFFICIENTS_H
#define DS_COEFFICIENTS_H

#if DS_FLOAT_BITS == 32

static const real LOG2_E = (real)1.44269502;
static const real LN2_HIGH = (real)0.693145752;
static const real LN2_LOW = (real)1.42860677e-6;
static const real SQRT_2 = (real)1.41421354;
static const real SQRT_1_2 = (real)0.707106769;
static const real INVERSE_SQRT_2_PI = (real)0.398942292;
static const real ERFC_HALFWAY = (real)3.0;
static const real ERFC_ORIGIN = (real)0.75;
static const real ERFC_LARGEST = (real)10.1999998;

/* expm1(r) = r + r^2 c(r), |r| <= ln(2) / 2; error 1.4e-8 */
static const real EXPM1[] = {
    (real)0.49999997,    (real)0.16666542,    (real)0.0416675247,
    (real)8.36667791e-3, (real)1.38624257e-3,
};

/* log((1 + s) / (1 - s)) = 2 s + s^3 c(s^2), |s| <= 3 - sqrt(8); error 8.1e-10 */
static const real LOG[] = {
    (real)0.666667759,
    (real)0.399775922,
    (real)0.298704594,
};

/* exp(t^2) erfc(t) = 2 / (t + 3) c(2 t / (t + 3) - ERFC_ORIGIN), t >= 0; error 5.4e-9 */
static const real ERFC[] = {
    (real)0.668544233,   (real)-0.622351587,   (real)0.435978532,    (real)-0.222972676,
    (real)0.0750771314,  (real)-0.0103488369,  (real)-3.52025358e-3, (real)1.66119274e-3,
    (real)1.26582629e-4, (real)-1.65888559e-4,
};

#endif

#if DS_FLOAT_BITS == 64

static const real LOG2_E = (real)1.4426950408889634;
static const real LN2_HIGH = (real)0.69314718055989033;
static const real LN2_LOW = (real)5.4979230187083712e-14;
static const real SQRT_2 = (real)1.4142135623730951;
static const real SQRT_1_2 = (real)0.70710678118654757;
static const real INVERSE_SQRT_2_PI = (real)0.3989422804014327;
static const real ERFC_HALFWAY = (real)3.0;
static const real ERFC_ORIGIN = (real)0.875;
static const real ERFC_LARGEST = (real)27.300000000000001;

/* expm1(r) = r + r^2 c(r), |r| <= ln(2) / 2; error 1.8e-17 */
static const real EXPM1[] = {
    (real)0.50000000000000056,   (real)0.16666666666666599,   (real)0.041666666666573843,
    (real)8.3333333333834945e-3, (real)1.3888888932287785e-3, (real)1.9841269731655356e-4,
    (real)2.4801504559847779e-5, (real)2.7557396596836874e-6, (real)2.7626282219810606e-7,
    (real)2.5057147086328461e-8,
};

/* log((1 + s) / (1 - s)) = 2 s + s^3 c(s^2), |s| <= 3 - sqrt(8); error 1.3e-18 */
static const real LOG[] = {
    (real)0.66666666666667362, (real)0.39999999999405822, (real)0.28571428743946758,
    (real)0.22222198440384103, (real)0.18183570238726599, (real)0.15313917988919654,
    (real)0.14797132105587299,
};

/* exp(t^2) erfc(t) = 2 / (t + 3) c(2 t / (t + 3) - ERFC_ORIGIN), t >= 0; error 6.4e-17 */
static const real ERFC[] = {
    (real)0.59714495368376064,    (real)-0.52323547455895214,   (real)0.35918841969258813,
    (real)-0.18717438478600096,   (real)0.067897495418515683,   (real)-0.012435840387741565,
    (real)-2.0283343529983763e-3, (real)1.7021552851076895e-3,  (real)-8.6499067467069135e-5,
    (real)-1.8928824377986134e-4, (real)2.5487164214271072e-5,  (real)2.4612935968374671e-5,
    (real)-3.4217735981199451e-6, (real)-3.823401367133689e-6,  (real)2.2694190173205779e-7,
    (real)6.4648915591941204e-7,  (real)5.3562264285564054e-8,  (real)-1.062317548251188e-7,
    (real)-2.935457741912667e-8,  (real)1.5942435872860932e-8,  (real)7.7679438224855723e-9,
    (real)-2.3649192784063719e-9, (real)-1.0526177788340805e-9, (real)3.1338327349105249e-10,
};

#endif

#endif
