"""Derive the constants of the elementary functions: writes csrc/kernels/coefficients.h.

Each polynomial is a least-squares fit of the relative error at Chebyshev nodes, which is within a
few tenths of the minimax error.  Coefficients are rounded to the target type one after the other,
from the lowest order up, and the rest is fitted anew each time, so that later ones make up for the
rounding of earlier ones.  The error left, relative to the value of the function that is computed,
is written beside each polynomial.

Run with mpmath installed: ``python csrc/tools/fit_polynomials.py > csrc/kernels/coefficients.h``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mpmath import mp, mpf

mp.dps = 80

HEADER = """\
/* coefficients.h: written by csrc/tools/fit_polynomials.py; do not edit.
 *
 * Polynomials c[0] + c[1] x + c[2] x^2 + ... and constants of elementary.h.  Beside each
 * polynomial, its greatest error relative to the function that is computed from it. */
/* clang-format off: a coefficient a line */
#ifndef DS_COEFFICIENTS_H
#define DS_COEFFICIENTS_H
"""


@dataclass(frozen=True)
class Float:
    """A floating-point type: its width, its significand's bits, and the digits that print it."""

    bits: int
    precision: int
    digits: int

    def round(self, x: mpf, precision: int | None = None) -> mpf:
        """Round `x` to nearest in this type, or to fewer bits."""
        with mp.workprec(precision or self.precision):
            return +x

    def literal(self, x: mpf) -> str:
        """Print `x` so that a C compiler reads the same value back."""
        with mp.workdps(40):
            return mp.nstr(x, self.digits, min_fixed=-3, max_fixed=4)


FLOATS = (Float(32, 24, 9), Float(64, 53, 17))


@dataclass(frozen=True)
class Polynomial:
    """What to fit.

    `function` on `interval(bits)` is fitted with `terms[bits]` coefficients, as a polynomial in
    x - `origin[bits]`; an absolute error e(x) counts as the relative error e(x) * `weight(x)`.
    """

    name: str
    comment: str
    function: Callable[[mpf], mpf]
    weight: Callable[[mpf], mpf]
    interval: Callable[[int], tuple[mpf, mpf]]
    terms: dict[int, int]
    origin: dict[int, mpf] = field(default_factory=lambda: {32: mpf(0), 64: mpf(0)})


def nodes(low: mpf, high: mpf, count: int) -> list[mpf]:
    """Chebyshev nodes on [low, high]; none is 0, where the functions below divide by zero."""
    middle, radius = (low + high) / 2, (high - low) / 2
    points = [middle + radius * mp.cospi(mpf(2 * i + 1) / (2 * count)) for i in range(count)]
    return [x for x in points if abs(x) > radius * mpf(10) ** -20]


def fit(polynomial: Polynomial, type_: Float) -> tuple[list[mpf], mpf]:
    """Return the rounded coefficients and the greatest relative error at many points."""
    low, high = polynomial.interval(type_.bits)
    terms, origin = polynomial.terms[type_.bits], polynomial.origin[type_.bits]
    points = nodes(low, high, 4 * terms)
    weights = [polynomial.weight(x) for x in points]
    rest = [polynomial.function(x) for x in points]
    coefficients: list[mpf] = []
    for order in range(terms):
        rows = [
            [w * (x - origin) ** k for k in range(order, terms)] for x, w in zip(points, weights)
        ]
        values = [w * y for w, y in zip(weights, rest)]
        lowest = type_.round(mp.lu_solve(mp.matrix(rows), mp.matrix(values))[0])
        coefficients.append(lowest)
        rest = [y - lowest * (x - origin) ** order for x, y in zip(points, rest)]
    error = max(
        abs(mp.polyval(coefficients[::-1], x - origin) - polynomial.function(x))
        * polynomial.weight(x)
        for x in nodes(low, high, 201)
    )
    return coefficients, error


def scaled_erfc(t: mpf) -> mpf:
    """exp(t^2) erfc(t)."""
    with mp.workdps(400):
        return mp.exp(t * t) * mp.erfc(t)


# Where 0 stands decides how rounding errors spread over t; these were found by trial.
ERFC_HALFWAY = mpf(3)
ERFC_ORIGIN = {32: mpf("0.75"), 64: mpf("0.875")}
ERFC_LARGEST = {32: mpf("10.2"), 64: mpf("27.3")}
HALF_LN2 = mp.log(2) / 2


def erfc_fitted(x: mpf) -> mpf:
    """exp(t^2) erfc(t) (t + h) / 2 at x = 2 t / (t + h), which brings t >= 0 to 0 <= x < 2."""
    t = ERFC_HALFWAY * x / (2 - x)
    return scaled_erfc(t) * (t + ERFC_HALFWAY) / 2


def erfc_interval(bits: int) -> tuple[mpf, mpf]:
    """The x of t = 0 and of the t from which on erfc(t) rounds to zero."""
    return mpf(0), 2 * ERFC_LARGEST[bits] / (ERFC_LARGEST[bits] + ERFC_HALFWAY)


POLYNOMIALS = (
    Polynomial(
        "EXPM1",
        "expm1(r) = r + r^2 c(r), |r| <= ln(2) / 2",
        lambda r: (mp.expm1(r) - r) / r**2,
        lambda r: r**2 / mp.expm1(r),
        lambda bits: (-HALF_LN2 * (1 + mpf(2) ** -12), HALF_LN2 * (1 + mpf(2) ** -12)),
        {32: 5, 64: 10},
    ),
    Polynomial(
        "LOG",
        "log((1 + s) / (1 - s)) = 2 s + s^3 c(s^2), |s| <= 3 - sqrt(8)",
        lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z,
        lambda z: z * mp.sqrt(z) / (2 * mp.atanh(mp.sqrt(z))),
        lambda bits: (mpf(0), (3 - mp.sqrt(8)) ** 2),
        {32: 3, 64: 7},
    ),
    Polynomial(
        "ERFC",
        "exp(t^2) erfc(t) = 2 / (t + 3) c(2 t / (t + 3) - ERFC_ORIGIN), t >= 0",
        erfc_fitted,
        lambda x: 1 / erfc_fitted(x),
        erfc_interval,
        {32: 10, 64: 24},
        ERFC_ORIGIN,
    ),
)


def constants(type_: Float) -> dict[str, mpf]:
    """The constants; ln 2 in two parts, so that n * LN2_HIGH is exact for every exponent n."""
    exponent_bits = {32: 8, 64: 11}[type_.bits]
    ln2_high = type_.round(mp.log(2), type_.precision - exponent_bits)
    exact = {
        "LOG2_E": 1 / mp.log(2),
        "LN2_HIGH": ln2_high,
        "LN2_LOW": mp.log(2) - ln2_high,
        "SQRT_2": mp.sqrt(2),
        "SQRT_1_2": mp.sqrt(mpf(1) / 2),
        "INVERSE_SQRT_2_PI": 1 / mp.sqrt(2 * mp.pi),
        "ERFC_HALFWAY": ERFC_HALFWAY,
        "ERFC_ORIGIN": ERFC_ORIGIN[type_.bits],
        "ERFC_LARGEST": ERFC_LARGEST[type_.bits],
    }
    return {name: type_.round(value) for name, value in exact.items()}


def main() -> None:
    print(HEADER)
    for type_ in FLOATS:
        print(f"#if DS_FLOAT_BITS == {type_.bits}\n")
        for name, value in constants(type_).items():
            print(f"static const real {name} = (real){type_.literal(value)};")
        for polynomial in POLYNOMIALS:
            coefficients, error = fit(polynomial, type_)
            print(f"\n/* {polynomial.comment}; error {mp.nstr(error, 2)} */")
            print(f"static const real {polynomial.name}[] = {{")
            for coefficient in coefficients:
                print(f"    (real){type_.literal(coefficient)},")
            print("};")
        print("\n#endif\n")
    print("#endif")


if __name__ == "__main__":
    main()
