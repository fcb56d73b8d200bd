"""Problems in words whose answer is a number: sequences, percentages, remainders.

**In**: a level from 1 to 5 and a source of chance.
**Out**: a `Problem`; its first formula says in signs what the question says in words.
**Not**: rounding. Answers are exact, and percentages come out even.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from random import Random

from codegemma.instruct.algebra.problem import Problem, Relation, Work
from codegemma.instruct.algebra.spelling import draw_nonzero, spell_latex, spell_terms

_SHOWN_TERMS = 3
_RATES = (10, 20, 25, 30, 40, 50, 60, 75, 80)
_SUBJECTS = ("The price of a ticket", "The number of visitors", "A firm's revenue", "The size of a file in kilobytes")


# --- sequences --------------------------------------------------------------------------------------------------------


def make_sequence(level: int, random: Random) -> Problem:
    """Draw a sequence: a term, a sum, a place; geometric at level 4; from two terms at level 5."""
    return (_ask_for_term, _ask_for_sum, _ask_for_place, _ask_for_geometric_sum, _ask_from_two_terms)[level - 1](random)


def _draw_sequence(random: Random) -> tuple[int, int, int]:
    """Draw the first term, the difference, and how many terms it is about."""
    return draw_nonzero(random, 40), draw_nonzero(random, 15), random.randint(8, 60)


def _show(terms: Sequence[int]) -> str:
    return ", ".join(map(str, terms)) + ", ..."


def _ask_for_term(random: Random) -> Problem:
    a, d, n = _draw_sequence(random)
    work = Work(f"{a} + ({n} - 1)*({d})", "The first term and the differences up to there")
    work.then("Compute the bracket", f"{a} + {n - 1}*({d})").then("Multiply", f"{a} + ({(n - 1) * d})")
    work.then("Add", str(last := a + (n - 1) * d))
    shown = _show([a + i * d for i in range(_SHOWN_TERMS)])
    return Problem(f"What is term {n} of the arithmetic sequence {shown}?", Relation.EQUAL, work.steps, str(last))


def _ask_for_sum(random: Random) -> Problem:
    a, d, n = _draw_sequence(random)
    work = Work(f"{n}*({a} + ({a} + ({n} - 1)*({d})))/2", "Half the number of terms, times first and last together")
    last = a + (n - 1) * d
    work.then("Compute the last term", f"{n}*({a} + ({last}))/2").then("Add", f"{n}*({a + last})/2")
    work.then("Multiply", f"({n * (a + last)})/2").then("Divide", str(total := n * (a + last) // 2))
    shown = _show([a + i * d for i in range(_SHOWN_TERMS)])
    question = f"What is the sum of the first {n} terms of the arithmetic sequence {shown}?"
    return Problem(question, Relation.EQUAL, work.steps, str(total))


def _ask_for_place(random: Random) -> Problem:
    a, d, n = _draw_sequence(random)
    last = a + (n - 1) * d
    work = Work(f"{a} + (n - 1)*({d}) = {last}", "Term n is the first term and n - 1 differences")
    work.then("Bring the first term to the right", f"(n - 1)*({d}) = {last - a}")
    work.then("Divide by the difference", f"n - 1 = {n - 1}").then("Add 1", f"n = {n}")
    shown = _show([a + i * d for i in range(_SHOWN_TERMS)])
    question = f"Which term of the arithmetic sequence {shown} is {last}?"
    return Problem(question, Relation.EQUIVALENT, work.steps, str(n))


def _ask_for_geometric_sum(random: Random) -> Problem:
    a, r, n = draw_nonzero(random, 9), random.choice((-3, -2, 2, 3, 4, 5)), random.randint(4, 9)
    power = r**n
    work = Work(f"({a})*(({r})^{n} - 1)/({r} - 1)", "First term times (ratio^terms - 1)/(ratio - 1)")
    work.then("Compute the power", f"({a})*({power} - 1)/({r} - 1)")
    work.then("Subtract", f"({a})*({power - 1})/({r - 1})").then("Divide", f"({a})*({(power - 1) // (r - 1)})")
    work.then("Multiply", str(total := a * (power - 1) // (r - 1)))
    shown = _show([a * r**i for i in range(_SHOWN_TERMS)])
    question = f"What is the sum of the first {n} terms of the geometric sequence {shown}?"
    return Problem(question, Relation.EQUAL, work.steps, str(total))


def _ask_from_two_terms(random: Random) -> Problem:
    a, d, n = _draw_sequence(random)
    i = random.randint(2, 9)
    j = i + random.randint(2, 9)
    low, high = a + (i - 1) * d, a + (j - 1) * d
    step = f"(({high}) - ({low}))/({j} - {i})"
    work = Work(
        f"{n}*(2*(({low}) - ({i} - 1)*{step}) + ({n} - 1)*{step})/2",
        "Half the number of terms, times twice the first term and the differences up to the last",
    )
    work.then("Compute the difference of two neighbours", f"{n}*(2*(({low}) - ({i} - 1)*({d})) + ({n} - 1)*({d}))/2")
    work.then("Compute the first term", f"{n}*(2*({a}) + ({n} - 1)*({d}))/2")
    inner = 2 * a + (n - 1) * d
    work.then("Compute the bracket", f"{n}*({inner})/2").then("Multiply and divide", str(total := n * inner // 2))
    question = (
        f"Term {i} of an arithmetic sequence is {low} and term {j} is {high}. What is the sum of its first {n} terms?"
    )
    return Problem(question, Relation.EQUAL, work.steps, str(total))


# --- percentages ------------------------------------------------------------------------------------------------------


def make_percentage(level: int, random: Random) -> Problem:
    """Draw rises and falls one after another; at levels 3 and 5 the value before them is asked for."""
    changes = [random.choice((1, -1)) * random.choice(_RATES) for _ in range((1, 2, 2, 4, 4)[level - 1])]
    factor = math.prod((Fraction(100 + change, 100) for change in changes), start=Fraction(1))
    before = factor.denominator * random.randint(1, 12)
    after = before * factor
    told = ", then ".join(f"{'rises' if c > 0 else 'falls'} by {abs(c)}%" for c in changes)
    subject = random.choice(_SUBJECTS)
    if level in (3, 5):
        return _ask_for_before(changes, factor, before, f"{subject} {told}, and is {after} afterwards.")
    work = Work(f"{before}{''.join(f'*({100 + c}/100)' for c in changes)}", "Each change multiplies")
    value = Fraction(before)
    for place, change in enumerate(changes):
        value *= Fraction(100 + change, 100)
        rest = "".join(f"*({100 + c}/100)" for c in changes[place + 1 :])
        work.then(f"After the {'rise' if change > 0 else 'fall'} by {abs(change)}%", f"{value}{rest}")
    return Problem(
        f"{subject} is {before}. It {told}. What is it afterwards?", Relation.EQUAL, work.steps, spell_latex(after)
    )


def _ask_for_before(changes: Sequence[int], factor: Fraction, before: int, told: str) -> Problem:
    after = before * factor
    left = "".join(f"*({100 + c}/100)" for c in changes)
    work = Work(f"x{left} = {after}", "Let x be the value before; each change multiplies")
    value = Fraction(1)
    for place, change in enumerate(changes):
        value *= Fraction(100 + change, 100)
        rest = "".join(f"*({100 + c}/100)" for c in changes[place + 1 :])
        work.then("Shorten" if not place else "Multiply the factors", f"x*({value}){rest} = {after}")
    work.then(f"Divide by {factor}", f"x = {before}")
    return Problem(f"{told} What was it before?", Relation.EQUIVALENT, work.steps, str(before))


# --- remainders -------------------------------------------------------------------------------------------------------


def make_remainder(level: int, random: Random) -> Problem:
    """Draw a question of remainders: a sum, powers, and from level 4 an unknown."""
    if level < 4:
        return _ask_for_remainder(level, random)
    return _ask_for_unknown(random) if level == 4 else _ask_for_both(random)


def _ask_for_remainder(level: int, random: Random) -> Problem:
    m = random.randint(5, 30)
    parts = [(random.randint(m + 1, 99), random.randint(2, 6) if level == 1 else random.randint(9, 60))]
    parts += [(random.randint(m + 1, 99), random.randint(9, 40)) for _ in range(level - 2)]
    given = " + ".join(f"{a}*{b}" if level == 1 else f"{a}^{b}" for a, b in parts)
    work = Work(given)
    if level == 1:
        a, b = parts[0]
        work.then(f"Take the remainder of {a}", f"{a % m}*{b}").then("Multiply", str(a % m * b))
        found = a * b % m
    else:
        _reduce_powers(parts, m, work)
        found = sum(pow(a, b, m) for a, b in parts) % m
    work.then("Take the remainder", str(found))
    question = f"What is the remainder of {given} divided by {m}?"
    return Problem(question, Relation.EQUAL, work.steps, str(found), m)


def _reduce_powers(parts: Sequence[tuple[int, int]], m: int, work: Work) -> None:
    """Take each power to its remainder by squaring; the others stand beside it."""
    done: list[str] = []
    for place, (a, b) in enumerate(parts):
        after = [f"{x}^{y}" for x, y in parts[place + 1 :]]

        def show(part: str, after: Sequence[str] = after) -> str:
            return " + ".join([*done, part, *after])

        base, exponent, beside = a % m, b, 1
        work.then(f"Take the remainder of {a}", show(f"{base}^{b}"))
        while exponent > 1 and base > 1:
            if exponent % 2:
                beside, exponent = beside * base % m, exponent - 1
                work.then("Split off one factor", show(_spell_power(beside, base, exponent)))
            base, exponent = base * base % m, exponent // 2
            work.then("Square", show(_spell_power(beside, base, exponent)))
        work.then("Multiply", show(str(beside * base)))
        done.append(str(beside * base % m))
        work.then("Take the remainder", " + ".join([*done, *after]))
    work.then("Add", str(sum(map(int, done))))


def _spell_power(beside: int, base: int, exponent: int) -> str:
    return f"{beside}*" * (beside != 1) + str(base) + f"^{exponent}" * (exponent != 1)


def _draw_unit(random: Random, m: int) -> int:
    while math.gcd(a := random.randint(2, m - 1), m) > 1:
        pass
    return a


def _solve_congruence(work: Work, a: int, b: int, m: int, letter: str) -> int:
    inverse = pow(a, -1, m)
    if inverse == 1:
        return b
    work.then(f"Multiply by {inverse}, for {inverse}*{a} is 1 and a multiple of {m}", f"{letter} ≡ {inverse}*{b}")
    work.then("Multiply", f"{letter} ≡ {inverse * b}").then("Take the remainder", f"{letter} ≡ {inverse * b % m}")
    return inverse * b % m


def _ask_for_unknown(random: Random) -> Problem:
    m = random.randint(11, 60)
    a, b, c = _draw_unit(random, m), random.randint(1, m - 1), random.randint(1, m - 1)
    given = f"{a}x + {b} ≡ {c}"
    work = Work(given).then(f"Subtract {b}", f"{a}x ≡ {c - b}").then("Take the remainder", f"{a}x ≡ {(c - b) % m}")
    found = _solve_congruence(work, a, (c - b) % m, m, "x")
    question = f"What is the smallest non-negative whole number x with {given} (mod {m})?"
    return Problem(question, Relation.EQUIVALENT, work.steps, str(found), m)


def _ask_for_both(random: Random) -> Problem:
    p = random.randint(5, 30)
    q = random.randint(7, 30)
    while math.gcd(p, q) > 1:
        q += 1
    a, b = random.randint(1, p - 1), random.randint(1, q - 1)
    work = Work(f"{a} + {p}k ≡ {b}", f"By the first, x = {a} + {p}k; put into the second")
    work.then(f"Subtract {a}", f"{p}k ≡ {b - a}").then(
        "Take remainders", f"{spell_terms([(p % q, 'k')])} ≡ {(b - a) % q}"
    )
    k = _solve_congruence(work, p % q, (b - a) % q, q, "k")
    question = (
        f"What is the smallest non-negative whole number x that leaves the remainder {a} when divided by {p}, and {b} "
        f"when divided by {q}?"
    )
    closing = f"The smallest is k = {k}, so x = {a} + {p}*{k} = {a + p * k}."
    return Problem(question, Relation.EQUIVALENT, work.steps, str(a + p * k), q, closing)
