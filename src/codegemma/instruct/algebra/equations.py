"""Equations with one unknown, systems of them, and quadratic equations: each step has the solutions of the one before.

**In**: a level from 1 to 5 and a source of chance.
**Out**: a `Problem` whose solution was chosen first, so that it exists and is the only one.
**Not**: equations without a solution, or with complex ones.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from random import Random

from codegemma.instruct.algebra.problem import Problem, Relation, Work
from codegemma.instruct.algebra.spelling import (
    Polynomial,
    Term,
    add,
    draw_nonzero,
    list_terms,
    multiply,
    spell,
    spell_latex,
    spell_product,
    spell_terms,
)

# A group `times(slope * x + constant)/over` of one side of an equation.
_Group = tuple[int, int, int, int]
_GROUPS = {1: (1, 0), 2: (1, 1), 3: (2, 1), 4: (3, 2), 5: (2, 2)}  # on the left and on the right, by level
_ORDINALS = ("first", "second", "third")


# --- one unknown ------------------------------------------------------------------------------------------------------


def make_linear(level: int, random: Random) -> Problem:
    """Draw an equation that is linear in one unknown; from level 3 with brackets, at level 5 with fractions."""
    letter = random.choice("xyzntk")
    solution = draw_nonzero(random, 6 + 3 * level)
    while True:
        left, right = ([_draw_group(level, solution, random) for _ in range(n)] for n in _GROUPS[level])
        slopes = [sum((Fraction(t * a, over) for t, a, _, over in side), Fraction()) for side in (left, right)]
        if slopes[0] != slopes[1]:
            break
    rest = sum(_value(group, solution) for group in left) - sum(_value(group, solution) for group in right)
    work = _solve_linear(left, right, rest, letter)
    question = f"Solve for {letter}: {work.steps[0].formula}"
    return Problem(question, Relation.EQUIVALENT, work.steps, spell_latex(solution))


def _draw_group(level: int, solution: int, random: Random) -> _Group:
    slope = draw_nonzero(random, 4 + level)
    if level == 5:
        over = random.randint(2, 9)  # divides the group's value at the solution
        return 1, slope, over * draw_nonzero(random, 6) - slope * solution, over
    times = 1 if level < 3 else draw_nonzero(random, 3 + level)
    return times, slope, draw_nonzero(random, 9 + level), 1


def _value(group: _Group, solution: int) -> int:
    times, slope, constant, over = group
    return times * (slope * solution + constant) // over


def _solve_linear(left: Sequence[_Group], right: Sequence[_Group], rest: int, letter: str) -> Work:
    work = Work(f"{_spell_groups(left, 0, letter)} = {_spell_groups(right, rest, letter)}")
    common = math.lcm(*(over for *_, over in (*left, *right)))
    if common > 1:
        left, right = ([(t * common // over, a, b, 1) for t, a, b, over in side] for side in (left, right))
        rest *= common
        whole = f"{_spell_groups(left, 0, letter)} = {_spell_groups(right, rest, letter)}"
        work.then(f"Multiply both sides by {common}", whole)
    work.then("Remove the brackets", f"{_expand(left, 0, letter)} = {_expand(right, rest, letter)}")
    (a, b), (c, d) = (
        (sum(t * slope for t, slope, *_ in side), sum(t * constant for t, _, constant, _ in side))
        for side in (left, right)
    )
    d += rest
    work.then("Collect terms on each side", f"{spell((b, a), letter)} = {spell((d, c), letter)}")
    work.then(_move((c, letter)), f"{spell((b, a - c), letter)} = {d}")
    work.then(_move((b, "")), f"{spell((0, a - c), letter)} = {d - b}")
    return work.then(f"Divide both sides by {a - c}", f"{letter} = {Fraction(d - b, a - c)}")


def _spell_groups(groups: Sequence[_Group], rest: int, letter: str) -> str:
    terms: list[Term] = []
    for times, slope, constant, over in groups:
        if (times, over) == (1, 1):
            terms += list_terms((constant, slope), letter)
        else:
            terms.append((times, f"({spell((constant, slope), letter)}){f'/{over}' if over > 1 else ''}"))
    return spell_terms([*terms, (rest, "")])


def _expand(groups: Sequence[_Group], rest: int, letter: str) -> str:
    terms = [t for times, a, b, _ in groups for t in ((times * a, letter), (times * b, ""))]
    return spell_terms([*terms, (rest, "")])


def _move(term: Term) -> str:
    """Say how a term leaves its side."""
    coefficient, letter = term
    act, from_to = ("Subtract", "from") if coefficient > 0 else ("Add", "to")
    return f"{act} {spell_terms([(abs(coefficient), letter)])} {from_to} both sides"


# --- systems ----------------------------------------------------------------------------------------------------------


def make_system(level: int, random: Random) -> Problem:
    """Draw two linear equations with two unknowns, or from level 4 three with three, and eliminate."""
    size = 2 if level < 4 else 3
    letters = random.choice(("xyz", "abc", "uvw"))[:size]
    most = 2 + level + (level < 4)
    solution = [draw_nonzero(random, 4 + 2 * level) for _ in letters]
    while True:
        rows = [[random.randint(-most, most) for _ in letters] for _ in letters]
        if _determine(rows) and all(len(letters) - row.count(0) > 1 for row in rows):
            break
    for row in rows:
        row.append(sum(a * x for a, x in zip(row, solution, strict=True)))
    work = Work(_spell_system(rows, letters))
    _eliminate(rows, letters, work)
    question = f"Solve the system of equations: {work.steps[0].formula}"
    answer = ", ".join(f"{letter} = {value}" for letter, value in zip(letters, solution, strict=True))
    return Problem(question, Relation.EQUIVALENT, work.steps, answer)


def _determine(rows: Sequence[Sequence[int]]) -> int:
    if len(rows) == 1:
        return rows[0][0]
    minors = ([[*row[:j], *row[j + 1 :]] for row in rows[1:]] for j in range(len(rows)))
    return sum((-1) ** j * rows[0][j] * _determine(minor) for j, minor in enumerate(minors))


def _spell_system(rows: Sequence[Sequence[int]], letters: str) -> str:
    equations = (f"{spell_terms(zip(row, letters, strict=False))} = {row[-1]}" for row in rows)
    return ", ".join(equations)


def _eliminate(rows: list[list[int]], letters: str, work: Work) -> None:
    """Leave one unknown in each row, by whole multiples of rows."""
    free = list(range(len(rows)))
    order = []
    for column in range(len(rows)):
        pivot = min((row for row in free if rows[row][column]), key=lambda row: abs(rows[row][column]))
        free.remove(pivot)
        order.append(pivot)
        for row in range(len(rows)):
            if row != pivot and rows[row][column]:
                _subtract(rows, row, pivot, column)
                work.then(_tell_subtracted(row, pivot, letters[column]), _spell_system(rows, letters))
    ordered = [[value // rows[row][column] for value in rows[row]] for column, row in enumerate(order)]
    work.then("Divide each equation by what stands before its unknown", _spell_system(ordered, letters))


def _subtract(rows: list[list[int]], row: int, pivot: int, column: int) -> None:
    common = math.gcd(rows[row][column], rows[pivot][column])
    own, other = rows[pivot][column] // common, rows[row][column] // common
    rows[row] = [own * a - other * b for a, b in zip(rows[row], rows[pivot], strict=True)]
    _reduce(rows, row)


def _reduce(rows: list[list[int]], row: int) -> None:
    divisor = math.gcd(*rows[row])
    rows[row] = [value // divisor for value in rows[row]]


def _tell_subtracted(row: int, pivot: int, letter: str) -> str:
    return f"Eliminate {letter} from the {_ORDINALS[row]} equation with a multiple of the {_ORDINALS[pivot]}"


# --- quadratic --------------------------------------------------------------------------------------------------------


def make_quadratic(level: int, random: Random) -> Problem:
    """Draw a quadratic equation with two real solutions; from level 4 these have roots in them."""
    return _make_by_root(level, random) if level > 3 else _make_by_factors(level, random)


def _make_by_factors(level: int, random: Random) -> Problem:
    while True:
        (q, p), (s, r) = (draw_primitive(level, random) for _ in range(2))
        if q * r != s * p:
            break
    quadratic = multiply((q, p), (s, r))
    work = Work(f"{spell(quadratic)} = 0")
    if level == 3:
        moved = (random.randint(-9, 9), draw_nonzero(random, 9), random.randint(-3, 3))
        work = Work(f"{spell(add(quadratic, moved))} = {spell(moved)}")
        work.then("Bring everything to the left side", f"{spell(quadratic)} = 0")
    work.then("Split the middle term", f"{spell_divided((q, p), (s, r))} = 0")
    work.then("Factor by grouping", f"{spell_product([(q, p), (s, r)])} = 0")
    work.then("A product is zero where a factor is", f"{spell((q, p))} = 0 or {spell((s, r))} = 0")
    roots = [Fraction(-q, p), Fraction(-s, r)]
    work.then("Solve each", " or ".join(f"x = {root}" for root in roots))
    return _ask_for_roots(work, [spell_latex(root) for root in sorted(roots)])


def draw_primitive(level: int, random: Random) -> Polynomial:
    """Draw a linear polynomial without a common divisor, from level 2 with any leading coefficient above 0."""
    while True:
        slope = 1 if level == 1 else random.randint(1, 2 + level)
        constant = draw_nonzero(random, 7 + level)
        if math.gcd(slope, constant) == 1:
            return constant, slope


def spell_divided(first: Polynomial, second: Polynomial) -> str:
    """Spell a product of two linear polynomials with its middle term in two parts.

    >>> spell_divided((-3, 1), (-2, 1))
    'x^2 - 2x - 3x + 6'
    """
    (q, p), (s, r) = first, second
    return spell_terms([(p * r, "x^2"), (p * s, "x"), (q * r, "x"), (q * s, "")])


def _make_by_root(level: int, random: Random) -> Problem:
    """Complete the square at level 4; take the formula at level 5."""
    while True:
        a = 1 if level == 4 else random.randint(2, 6)
        b = 2 * draw_nonzero(random, 9) if level == 4 else draw_nonzero(random, 15)
        c = draw_nonzero(random, 20)
        discriminant = b * b - 4 * a * c
        if discriminant > 0 and math.isqrt(discriminant) ** 2 != discriminant:
            break
    work = Work(f"{spell((c, b, a))} = 0")
    if level == 4:
        half, square = b // 2, (b // 2) ** 2
        work.then(_move((c, "")), f"{spell((0, b, 1))} = {-c}")
        work.then(f"Add {square} to both sides to complete the square", f"{spell((square, b, 1))} = {square - c}")
        side = spell((half, 1))
        work.then("Write the left side as a square", f"({side})^2 = {square - c}")
        work.then("Take the root", f"{side} = sqrt({square - c}) or {side} = -sqrt({square - c})")
    else:
        whole = f"sqrt(({b})^2 - 4*{a}*({c}))"
        work.then("Use the formula", f"x = (-({b}) + {whole})/(2*{a}) or x = (-({b}) - {whole})/(2*{a})")
        under = f"sqrt({discriminant})"
        work.then("Compute", f"x = ({-b} + {under})/{2 * a} or x = ({-b} - {under})/{2 * a}")
    plain, latex = zip(*(_spell_root(a, b, discriminant, sign) for sign in (1, -1)), strict=True)
    work.then("Simplify", f"x = {plain[0]} or x = {plain[1]}")
    return _ask_for_roots(work, latex)


def _spell_root(a: int, b: int, discriminant: int, sign: int) -> tuple[str, str]:
    """Spell `(-b + sign * sqrt(discriminant)) / 2a` in lowest terms, plain and in LaTeX."""
    outside = max(n for n in range(1, math.isqrt(discriminant) + 1) if discriminant % (n * n) == 0)
    common = math.gcd(b, outside, 2 * a)
    inside, over = discriminant // outside**2, 2 * a // common
    first, times = -b // common, sign * outside // common
    plain = spell_terms([(first, ""), (times, f"sqrt({inside})")])
    latex = spell_terms([(first, ""), (times, f"\\sqrt{{{inside}}}")])
    return (plain, latex) if over == 1 else (f"({plain})/{over}", f"\\frac{{{latex}}}{{{over}}}")


def _ask_for_roots(work: Work, answers: Sequence[str]) -> Problem:
    question = f"Find all real solutions of {work.steps[0].formula}"
    return Problem(question, Relation.EQUIVALENT, work.steps, ", ".join(answers))
