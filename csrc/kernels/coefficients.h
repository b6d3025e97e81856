/* coefficients.h: written by csrc/tools/fit_polynomials.py; do not edit.
 *
 * Polynomials c[0] + c[1] x + c[2] x^2 + ... and constants of elementary.h.  Beside each polynomial,
 * its greatest error relative to the function that is computed from it. */
#ifndef DS_COEFFICIENTS_H
#define DS_COEFFICIENTS_H

#if DS_FLOAT_BITS == 32

static const real LOG2_E = (real)1.44269502;
static const real LN2_HIGH = (real)0.693145752;
static const real LN2_LOW = (real)1.42860677e-6;
static const real SQRT_2 = (real)1.41421354;
static const real SQRT_1_2 = (real)0.707106769;
static const real INVERSE_SQRT_2_PI = (real)0.398942292;
static const real ERFC_CENTRE = (real)3.0;
static const real ERFC_LARGEST = (real)10.1999998;

/* expm1(r) = r + r^2 c(r), |r| <= ln(2) / 2; error 1.4e-8 */
static const real EXPM1[] = {
    (real)0.49999997,
    (real)0.16666542,
    (real)0.0416675247,
    (real)8.36667791e-3,
    (real)1.38624257e-3,
};

/* log((1 + s) / (1 - s)) = 2 s + s^3 c(s^2), |s| <= 3 - sqrt(8); error 8.1e-10 */
static const real LOG[] = {
    (real)0.666667759,
    (real)0.399775922,
    (real)0.298704594,
};

/* exp(t^2) erfc(t) = 2 / (t + 3) c(q), q = (t - 3) / (t + 3), t >= 0; error 7.8e-9 */
static const real ERFC[] = {
    (real)0.537003458,
    (real)-0.44169724,
    (real)0.29511407,
    (real)-0.15523307,
    (real)0.0597649626,
    (real)-0.013419468,
    (real)-6.13826618e-4,
    (real)1.53926201e-3,
    (real)-2.41843154e-4,
    (real)-1.62663433e-4,
};

#endif

#if DS_FLOAT_BITS == 64

static const real LOG2_E = (real)1.4426950408889634;
static const real LN2_HIGH = (real)0.69314718055989033;
static const real LN2_LOW = (real)5.4979230187083712e-14;
static const real SQRT_2 = (real)1.4142135623730951;
static const real SQRT_1_2 = (real)0.70710678118654757;
static const real INVERSE_SQRT_2_PI = (real)0.3989422804014327;
static const real ERFC_CENTRE = (real)3.0;
static const real ERFC_LARGEST = (real)27.300000000000001;

/* expm1(r) = r + r^2 c(r), |r| <= ln(2) / 2; error 1.9e-17 */
static const real EXPM1[] = {
    (real)0.50000000000000056,
    (real)0.16666666666666599,
    (real)0.041666666666573843,
    (real)8.3333333333834945e-3,
    (real)1.3888888932287785e-3,
    (real)1.9841269731655356e-4,
    (real)2.4801504559847779e-5,
    (real)2.7557396596836874e-6,
    (real)2.7626282219810606e-7,
    (real)2.5057147086328461e-8,
};

/* log((1 + s) / (1 - s)) = 2 s + s^3 c(s^2), |s| <= 3 - sqrt(8); error 1.3e-18 */
static const real LOG[] = {
    (real)0.66666666666667362,
    (real)0.39999999999405822,
    (real)0.28571428743946758,
    (real)0.22222198440384103,
    (real)0.18183570238726599,
    (real)0.15313917988919654,
    (real)0.14797132105587299,
};

/* exp(t^2) erfc(t) = 2 / (t + 3) c(q), q = (t - 3) / (t + 3), t >= 0; error 8.2e-17 */
static const real ERFC[] = {
    (real)0.5370034535441699,
    (real)-0.44169722658494182,
    (real)0.29511417855204536,
    (real)-0.15523363095028272,
    (real)0.059763880643853885,
    (real)-0.013413617312277248,
    (real)-6.0620831726315824e-4,
    (real)1.5170310010674288e-3,
    (real)-2.7415480996104353e-4,
    (real)-1.3838892498121885e-4,
    (real)5.3780527261249123e-5,
    (real)1.519907323861401e-5,
    (real)-8.7344502578002702e-6,
    (real)-2.3744997744430081e-6,
    (real)1.3806052727119479e-6,
    (real)4.9894736701794501e-7,
    (real)-2.0060350798727699e-7,
    (real)-1.1556400620601972e-7,
    (real)1.9673883704876133e-8,
    (real)2.363605918314867e-8,
    (real)1.2998860036073294e-9,
    (real)-2.9081759757877573e-9,
    (real)-7.8175490617951504e-10,
    (real)-2.9664699993448668e-11,
};

#endif

#endif
