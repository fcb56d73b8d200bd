"""Expressions that are rewritten: expanded, factored, fractions simplified. Each step is the same for all numbers.

**In**: a level from 1 to 5 and a source of chance.
**Out**: a `Problem` that begins with what was made from its answer.
**Not**: factors that are no polynomials with whole coefficients.
"""

import math
from collections.abc import Sequence
from random import Random

from codegemma.instruct.algebra.equations import draw_primitive, spell_divided
from codegemma.instruct.algebra.problem import Problem, Relation, Work
from codegemma.instruct.algebra.spelling import (
    Polynomial,
    add,
    draw_nonzero,
    list_terms,
    multiply,
    spell,
    spell_product,
    spell_terms,
)

# The degrees of the factors of each product, by level.
_PRODUCTS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((1, 1),), 2: ((1, 2),), 3: ((1, 1, 1),), 4: ((1, 1), (1, 2)), 5: ((1, 1, 2), (2, 1)),
}  # fmt: skip
_Product = tuple[int, list[Polynomial]]


# --- expansion --------------------------------------------------------------------------------------------------------


def make_expansion(level: int, random: Random) -> Problem:
    """Draw products of polynomials, and multiply them out two factors at a time."""
    products: list[_Product] = [
        (1 if not place else random.choice((1, -1)), [_draw_polynomial(d, level, random) for d in degrees])
        for place, degrees in enumerate(_PRODUCTS[level])
    ]
    work = Work(_spell_products(products))
    given = work.steps[0].formula
    total: Polynomial = (0,)
    for place, (sign, factors) in enumerate(products):
        while len(factors) > 1:
            first, second, *rest = factors
            terms = spell_terms(
                (a * b, _name_power(i + j)) for i, a in _descend(first) for j, b in _descend(second) if a * b
            )
            shown = [terms, *map(spell, rest)]
            work.then("Multiply term by term", _spell_products(products, place, shown))
            factors[:] = [multiply(first, second), *rest]
            work.then("Collect equal powers", _spell_products(products))
        total = add(total, factors[0], sign)
    flat = [(sign * c, name) for sign, (factor,) in products for c, name in list_terms(factor)]
    work.then("Remove the brackets", spell_terms(flat))
    work.then("Collect equal powers", spell(total))
    return Problem(f"Expand and simplify: {given}", Relation.EQUAL, work.steps, spell(total))


def _draw_polynomial(degree: int, level: int, random: Random) -> Polynomial:
    inner = [random.randint(-4 - level, 4 + level) for _ in range(degree - 1)]
    return (draw_nonzero(random, 7 + level), *inner, draw_nonzero(random, 2 + level))


def _descend(polynomial: Polynomial) -> list[tuple[int, int]]:
    return list(enumerate(polynomial))[::-1]


def _name_power(power: int) -> str:
    return ("", "x")[power] if power < 2 else f"x^{power}"


def _spell_products(products: Sequence[_Product], place: int = -1, shown: Sequence[str] = ()) -> str:
    """Spell all products; in the one at `place`, the texts `shown` stand for its factors."""
    text = ""
    for number, (sign, factors) in enumerate(products):
        spelled = shown if number == place else [spell(factor) for factor in factors]
        if len(products) == len(spelled) == 1:
            return spelled[0]
        text += (" + " if sign > 0 else " - ") * bool(text) + "".join(f"({factor})" for factor in spelled)
    return text


# --- factoring --------------------------------------------------------------------------------------------------------


def make_factoring(level: int, random: Random) -> Problem:
    """Draw a product of factors that cannot be divided further, and find them: by grouping, up to cubics."""
    return _make_quadratic_product(level, random) if level < 4 else _make_cubic_product(level, random)


def _make_quadratic_product(level: int, random: Random) -> Problem:
    first, second = (draw_primitive(level, random) for _ in range(2))
    times = draw_nonzero(random, 6, 2) if level == 3 else 1
    product = multiply(first, second)
    work = Work(spell(multiply((times,), product)))
    around = (lambda text: text) if times == 1 else (lambda text: f"{times}({text})")
    work.then(f"Take out the common factor {times}", around(spell(product)))
    work.then("Split the middle term", around(spell_divided(first, second)))
    grouped = spell_terms([(first[1], f"x({spell(second)})"), (first[0], f"({spell(second)})")])
    work.then("Group", around(grouped))
    work.then("Take out the common bracket", spell_product([(times,), first, second]))
    return _ask_to_factor(work)


def _make_cubic_product(level: int, random: Random) -> Problem:
    """Group `(ax + b)(cx^2 + d)`; at level 5 the second is a difference of squares."""
    first = draw_primitive(2, random)
    while True:
        if level == 4:
            c, d = random.randint(1, 6), random.randint(1, 9)
        else:
            c, d = random.randint(1, 5) ** 2, -(random.randint(1, 9) ** 2)
        if math.gcd(c, d) == 1:
            break
    second = (d, 0, c)
    work = Work(spell(multiply(first, second)))
    grouped = spell_terms([(c, f"x^2({spell(first)})"), (d, f"({spell(first)})")])
    work.then("Group the first two terms, and the last two", grouped)
    work.then("Take out the common bracket", spell_product([first, second]))
    if level == 5:
        n, m = math.isqrt(c), math.isqrt(-d)
        squares = f"({spell(first)})(({spell((0, n))})^2 - {m}^2)"
        work.then("Write the second as a difference of squares", squares)
        work.then("Factor the difference", spell_product([first, (-m, n), (m, n)]))
    return _ask_to_factor(work)


def _ask_to_factor(work: Work) -> Problem:
    question = f"Factor over the integers: {work.steps[0].formula}"
    return Problem(question, Relation.EQUAL, work.steps, work.steps[-1].formula)


# --- fractions --------------------------------------------------------------------------------------------------------


def make_rational(level: int, random: Random) -> Problem:
    """Draw fractions of polynomials: one to reduce, from level 3 two to add or multiply."""
    if level in (3, 5):
        return _make_sum(level, random)
    return _make_reducible(level, random)


def _draw_different(count: int, level: int, random: Random) -> list[Polynomial]:
    """Draw linear polynomials of which no two have the same root."""
    found: list[Polynomial] = []
    while len(found) < count:
        drawn = draw_primitive(level, random)
        if drawn not in found:
            found.append(drawn)
    return found


def _make_reducible(level: int, random: Random) -> Problem:
    """Reduce a fraction with one common factor, or at level 4 a product of two fractions with two."""
    leading = 1 if level < 4 else 2
    a, b, c, d = _draw_different(4, leading, random)
    if level == 4:
        top, bottom = [[a, b], [c, d]], [[b, c], [d]]
        bottom[1].append(_draw_unlike((a, b, c, d), leading, random))
        kept = [a], [bottom[1][1]]
    elif level == 1:
        top, bottom, kept = [[a, b]], [[b]], ([a], [])
    else:
        top, bottom, kept = [[a, b]], [[b, c]], ([a], [c])
    pairs = list(zip(top, bottom, strict=True))
    work = Work(" * ".join(_spell_fraction(spell(_multiply(t)), spell(_multiply(u))) for t, u in pairs))
    work.then("Factor", " * ".join(f"{_bracket(t)}/{_bracket(u)}" for t, u in pairs))
    over, under = [f for t in top for f in t], [f for u in bottom for f in u]
    work.then("Write as one fraction", f"{_bracket(over)}/{_bracket(under)}")
    return _ask_to_simplify(work, *kept)


def _draw_unlike(others: Sequence[Polynomial], level: int, random: Random) -> Polynomial:
    while (drawn := draw_primitive(level, random)) in others:
        pass
    return drawn


def _multiply(factors: Sequence[Polynomial]) -> Polynomial:
    product: Polynomial = (1,)
    for factor in factors:
        product = multiply(product, factor)
    return product


def _make_sum(level: int, random: Random) -> Problem:
    """Add two fractions; at level 5 their denominators share a factor."""
    while True:
        p, q, r = _draw_different(3, 1, random)
        first, second = ([p], [q]) if level == 3 else ([p, q], [q, r])
        a, b = draw_nonzero(random, 9), draw_nonzero(random, 9)
        common = [p, q] if level == 3 else [p, q, r]
        lacking = (q, p) if level == 3 else (r, p)
        numerator = add(multiply((a,), lacking[0]), lacking[1], b)
        # A sum that could be reduced, or that is a constant over them, is drawn again.
        if numerator[1] and all(numerator[0] * f[1] != numerator[1] * f[0] for f in common):
            break
    sign, size = ("+", b) if b > 0 else ("-", -b)
    denominators = [spell(_multiply(factors)) for factors in (first, second)]
    work = Work(f"{a}/({denominators[0]}) {sign} {size}/({denominators[1]})")
    work.then("Factor the denominators", f"{a}/{_bracket(first)} {sign} {size}/{_bracket(second)}")
    below = spell_product(common)
    over = [spell_product([(k,), f]) for k, f in ((a, lacking[0]), (size, lacking[1]))]
    work.then("Bring to one denominator", f"({over[0]})/({below}) {sign} ({over[1]})/({below})")
    work.then("Add the numerators", f"({over[0]} {sign} {over[1]})/({below})")
    flat = [*list_terms(multiply((a,), lacking[0])), *list_terms(multiply((b,), lacking[1]))]
    work.then("Remove the brackets above", f"({spell_terms(flat)})/({below})")
    return _ask_to_simplify(work, [numerator], common)


def _bracket(factors: Sequence[Polynomial]) -> str:
    """Spell a product as what stands above or below a line: in one pair of brackets."""
    return spell_product(factors) if len(factors) == 1 else f"({spell_product(factors)})"


def _spell_fraction(above: str, below: str) -> str:
    return f"({above})/({below})"


def _ask_to_simplify(work: Work, above: Sequence[Polynomial], below: Sequence[Polynomial]) -> Problem:
    """Ask for one fraction in lowest terms; `above` is one polynomial."""
    (top,) = above
    bottom = spell_product(below) if len(below) > 1 else "".join(map(spell, below))
    last = _spell_fraction(spell(top), bottom) if bottom else spell(top)
    work.then("Simplify", last)
    question = f"Write as one fraction in lowest terms, where no denominator is zero: {work.steps[0].formula}"
    latex = f"\\frac{{{spell(top)}}}{{{bottom}}}" if bottom else spell(top)
    return Problem(question, Relation.EQUAL, work.steps, latex)
