"""Generated algebra is right: an independent algebra system finds each step to follow and each answer to solve."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import islice, pairwise

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.align.chats import find_fault
from codegemma.errors import InputError
from codegemma.instruct.algebra.families import FAMILIES, LEVELS, make_problem, tell_examples
from codegemma.instruct.algebra.problem import Problem, Relation
from codegemma.instruct.algebra.spelling import multiply, spell_product

LETTERS = {name: sympy.Symbol(name) for name in "abcknstuvwxyz"}
SEEDS = st.integers(0, 2**40)


def parse(formula: str) -> sympy.Expr:
    """Read a formula as a person does: `^` is a power, a product may go without a sign."""
    text = re.sub(r"(?<=[0-9a-z)])(?<!sqrt)(?=\()|(?<=[0-9)])(?=[a-z])", "*", formula).replace("^", "**")
    return sympy.sympify(text, locals={**LETTERS, "sqrt": sympy.sqrt}, rational=True)


def parse_latex(answer: str) -> sympy.Expr:
    plain = re.sub(r"\\sqrt\{(\d+)\}", r"sqrt(\1)", answer)
    return parse(re.sub(r"\\frac\{(.*?)\}\{(.*?)\}$", r"((\1)/(\2))", plain))


def parse_sides(equation: str) -> sympy.Expr:
    left, right = re.split(" = | ≡ ", equation)
    return parse(left) - parse(right)


def solve(formula: str, modulus: int | None) -> set[object]:
    """Find what a statement leaves open: solutions of equations that `or` parts and commas join."""
    if modulus is not None:
        difference = parse_sides(formula)
        (letter,) = difference.free_symbols
        return {n for n in range(modulus) if difference.subs(letter, n) % modulus == 0}
    found: set[object] = set()
    for part in formula.split(" or "):
        equations = [parse_sides(equation) for equation in part.split(", ")]
        letters = sorted(set().union(*(e.free_symbols for e in equations)), key=str)
        if len(letters) == 1:
            found |= {sympy.radsimp(root) for root in sympy.roots(sympy.Poly(equations[0], *letters))}
        else:
            found.add(tuple(sympy.linsolve(equations, letters)))
    return found


def is_same(first: str, second: str, modulus: int | None) -> bool:
    difference = sympy.cancel(parse(first) - parse(second))
    return bool((difference if modulus is None else difference % modulus) == 0)


def check_steps(problem: Problem) -> None:
    formulas = [step.formula for step in problem.steps]
    assert len(formulas) > 1
    if problem.relation is Relation.EQUAL:
        for before, after in pairwise(formulas):
            assert is_same(before, after, problem.modulus), (before, after)
        return
    solutions = solve(formulas[0], problem.modulus)
    assert solutions
    for formula in formulas[1:]:
        assert _show(solve(formula, problem.modulus)) == _show(solutions), (formulas[0], formula)


def _show(solutions: set[object]) -> list[str]:
    return sorted(map(str, (sympy.nsimplify(s) if isinstance(s, sympy.Expr) else s for s in solutions)))


@settings(max_examples=12)
@pytest.mark.parametrize("family", FAMILIES)
@given(level=st.sampled_from(LEVELS), seed=SEEDS)
def test_every_step_follows_from_the_one_before_and_the_answer_solves_the_problem(
    family: str, level: int, seed: int
) -> None:
    problem = make_problem(family, level, seed)
    check_steps(problem)
    check_answer(family, problem)


def check_answer(family: str, problem: Problem) -> None:
    """Put the answer into what the question says, by another way than the one that made it."""
    question, answer = problem.question, problem.answer
    if not problem.steps[0].words:
        assert problem.steps[0].formula in question
    CHECKS[family](question, answer)


def check_linear(question: str, answer: str) -> None:
    difference = parse_sides(question.partition(": ")[2])
    (letter,) = difference.free_symbols
    assert difference.subs(letter, parse_latex(answer)) == 0


def check_system(question: str, answer: str) -> None:
    values = {LETTERS[part.partition(" = ")[0]]: int(part.partition(" = ")[2]) for part in answer.split(", ")}
    assert all(parse_sides(e).subs(values) == 0 for e in question.partition(": ")[2].split(", "))


def check_quadratic(question: str, answer: str) -> None:
    difference = parse_sides(question.partition("of ")[2])
    roots = [parse_latex(root) for root in answer.split(", ")]
    assert len(set(roots)) == 2
    assert all(sympy.expand(difference.subs(LETTERS["x"], root)) == 0 for root in roots)


def check_expansion(question: str, answer: str) -> None:
    assert parse(answer) == sympy.expand(parse(question.partition(": ")[2]))


def check_factoring(question: str, answer: str) -> None:
    given = parse(question.partition(": ")[2])
    assert sympy.expand(parse(answer) - given) == 0
    content, factors = sympy.factor_list(given)
    assert answer.count("(") == sum(times for _, times in factors)
    assert answer.startswith("(") if content == 1 else answer.startswith(f"{content}(")


def check_rational(question: str, answer: str) -> None:
    given = parse(question.partition(": ")[2])
    found = parse_latex(answer)
    assert sympy.cancel(given - found) == 0
    assert sympy.degree(sympy.denom(found), LETTERS["x"]) == sympy.degree(sympy.denom(sympy.cancel(given)))


def check_sequence(question: str, answer: str) -> None:
    numbers = [int(n) for n in re.findall(r"-?\d+", question)]
    if "Term" in question:
        i, low, j, high, n = numbers
        terms = [low + sympy.Rational(high - low, j - i) * (k - i) for k in range(1, n + 1)]
        assert sum(terms) == int(answer)
        return
    n, shown = (numbers[0], numbers[1:4]) if "Which" not in question else (int(answer), numbers[:3])
    terms = list(shown)
    while len(terms) < n:
        is_geometric = "geometric" in question
        terms.append(terms[-1] * shown[1] // shown[0] if is_geometric else terms[-1] + shown[1] - shown[0])
    if "Which" in question:
        assert terms[n - 1] == numbers[3]
    else:
        assert int(answer) == (sum(terms) if "sum" in question else terms[n - 1])


def check_percentage(question: str, answer: str) -> None:
    if "before" in question:
        before, after = sympy.Integer(answer), int(re.findall(r"is (\d+) afterwards", question)[0])
    else:
        before, after = sympy.Integer(re.findall(r"is (\d+)\.", question)[0]), int(answer)
    for way, rate in re.findall(r"(rises|falls) by (\d+)%", question):
        before *= 1 + sympy.Rational(int(rate) * (1 if way == "rises" else -1), 100)
    assert before == after


def check_remainder(question: str, answer: str) -> None:
    numbers = [int(n) for n in re.findall(r"\d+", question)]
    found = int(answer)
    if "leaves" in question:
        a, p, b, q = numbers
        assert found == next(x for x in range(p * q) if x % p == a and x % q == b)
    elif "≡" in question:
        a, b, c, m = numbers
        assert found == next(x for x in range(m) if (a * x + b - c) % m == 0)
    else:
        assert found == int(parse(question.partition("of ")[2].partition(" divided")[0])) % numbers[-1]


CHECKS: dict[str, Callable[[str, str], None]] = {
    "linear": check_linear, "systems": check_system, "quadratic": check_quadratic, "expansion": check_expansion,
    "factoring": check_factoring, "rational": check_rational, "sequences": check_sequence,
    "percentages": check_percentage, "remainders": check_remainder,
}  # fmt: skip


def test_a_wrong_step_is_found() -> None:
    problem = make_problem("linear", 3, 5)
    *steps, last = problem.steps
    wrong = Problem(problem.question, problem.relation, (*steps, last._replace(formula="x = 1000")), "1000")
    with pytest.raises(AssertionError):
        check_steps(wrong)


@given(st.sampled_from(list(FAMILIES)), st.sampled_from(LEVELS), SEEDS)
def test_a_problem_hangs_on_its_name_alone_and_is_a_conversation(family: str, level: int, seed: int) -> None:
    problem = make_problem(family, level, seed)
    assert problem == make_problem(family, level, seed)
    assert find_fault(problem.tell_turns()) is None
    assert problem.spell_solution().endswith(f"The final answer is ${problem.answer}$. I hope it is correct.")


def test_a_stream_goes_round_families_and_levels_and_seldom_repeats_itself() -> None:
    examples = list(islice(tell_examples(list(FAMILIES), LEVELS, 7), 900))
    kinds = Counter((example.origin["kind"], example.origin["level"]) for example in examples)
    assert kinds == {(family, level): 20 for family in FAMILIES for level in LEVELS}
    assert len({example.turns[0].text for example in examples}) > 880
    first = examples[0].origin
    assert make_problem(first["kind"], first["level"], first["seed"]).tell_turns() == examples[0].turns


def test_steps_grow_with_the_level() -> None:
    lengths = [
        sum(len(make_problem(f, level, n).spell_solution()) for f in FAMILIES for n in range(20)) for level in LEVELS
    ]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize(("family", "level"), [("topology", 1), ("linear", 0), ("linear", 6)])
def test_an_unknown_family_or_level_names_the_known_ones(family: str, level: int) -> None:
    with pytest.raises(InputError, match=r"families: linear, systems.*levels: 1 to 5"):
        make_problem(family, level, 0)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 9)), min_size=1, max_size=3))
def test_a_product_is_spelled_so_that_it_reads_back(factors: list[tuple[int, int]]) -> None:
    product: tuple[int, ...] = (1,)
    for factor in factors:
        product = multiply(product, factor)
    assert sympy.expand(parse(spell_product(factors))) == sympy.expand(parse(spell_product([product])))
