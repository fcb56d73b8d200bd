"""Spells sums and products of terms as people write them, and multiplies polynomials.

**In**: coefficients; a polynomial in one letter is a tuple of integers, the constant first.
**Out**: text: `3x^2 - x + 5`, `(x - 2)(x + 3)`.
**Not**: simplification. What is spelled is what was given, in its order, zeros left out.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from random import Random

Polynomial = tuple[int, ...]
Term = tuple[int, str]


def spell_terms(terms: Iterable[Term]) -> str:
    """Spell a sum of terms, each a coefficient and a letter; without letter it is a number.

    >>> spell_terms([(3, "x"), (-1, "y"), (0, "z"), (5, "")])
    '3x - y + 5'
    """
    text = ""
    for coefficient, letter in terms:
        if coefficient:
            sign = ("-" if coefficient < 0 else "") if not text else (" - " if coefficient < 0 else " + ")
            text += sign + (letter if letter and abs(coefficient) == 1 else f"{abs(coefficient)}{letter}")
    return text or "0"


def list_terms(polynomial: Sequence[int], letter: str = "x") -> list[Term]:
    """List the terms of a polynomial, the highest power first.

    >>> list_terms((1, 0, 2))
    [(2, 'x^2'), (0, 'x'), (1, '')]
    """
    names = ["", letter, *(f"{letter}^{power}" for power in range(2, len(polynomial)))]
    return list(zip(polynomial, names, strict=False))[::-1]


def spell(polynomial: Sequence[int], letter: str = "x") -> str:
    """Spell a polynomial.

    >>> spell((-5, 1, 3))
    '3x^2 + x - 5'
    """
    return spell_terms(list_terms(polynomial, letter))


def spell_product(factors: Iterable[Sequence[int]], letter: str = "x") -> str:
    """Spell a product of polynomials; constants stand before it.

    >>> spell_product([(3,), (-2, 1), (1, 1)])
    '3(x - 2)(x + 1)'
    """
    factors = list(factors)
    constant = 1
    for factor in factors:
        constant *= factor[0] if len(factor) == 1 else 1
    others = "".join(f"({spell(factor, letter)})" for factor in factors if len(factor) > 1)
    head = {1: "", -1: "-"}.get(constant, str(constant)) if others else str(constant)
    return head + others


def multiply(first: Sequence[int], second: Sequence[int]) -> Polynomial:
    """Multiply two polynomials.

    >>> multiply((-2, 1), (3, 1))
    (-6, 1, 1)
    """
    product = [0] * (len(first) + len(second) - 1)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            product[i + j] += a * b
    return tuple(product)


def add(first: Sequence[int], second: Sequence[int], times: int = 1) -> Polynomial:
    """Add a multiple of a polynomial to another.

    >>> add((1, 1), (5,), -1)
    (-4, 1)
    """
    size = max(len(first), len(second))
    a, b = ([*p, *[0] * (size - len(p))] for p in (first, second))
    return tuple(x + times * y for x, y in zip(a, b, strict=True))


def spell_latex(value: int | Fraction) -> str:
    r"""Spell a number in LaTeX.

    >>> spell_latex(Fraction(-3, 2)), spell_latex(4)
    ('-\\frac{3}{2}', '4')
    """
    fraction = Fraction(value)
    if fraction.denominator == 1:
        return str(fraction.numerator)
    return f"{'-' * (fraction < 0)}\\frac{{{abs(fraction.numerator)}}}{{{fraction.denominator}}}"


def draw_nonzero(random: Random, most: int, least: int | None = None) -> int:
    """Draw an integer from `least` (by default `-most`) to `most` that is not 0."""
    low = -most if least is None else least
    while True:
        if value := random.randint(low, most):
            return value
