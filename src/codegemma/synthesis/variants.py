"""Breaks a program in one place, so that its tests can show whether they notice.

**In**: a Python program, how many variants.
**Out**: programs: the emptied one first, whose functions give `None`; then others with one operator, number, truth
value, condition or returned value changed. The same program gives the same variants.
**Not**: proof that a variant is wrong: some changes change nothing that a test could see.
"""

import ast
import copy
import random
from collections.abc import Callable, Iterator

from codegemma.text.python_source import parse_quietly

_Change = Callable[[], None]

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


def break_program(program: str, count: int) -> list[str]:
    """Make up to `count` variants, each of which compiles and differs from the program.

    >>> sorted(variant.splitlines()[1].strip() for variant in break_program("def f(x):\\n    return x + 1", 3))
    ['return None', 'return x + 2', 'return x - 1']
    """
    tree = parse_quietly(program)
    places = list(range(len(list(_list_changes(tree)))))
    random.Random(program).shuffle(places)
    made = {ast.unparse(tree): False, _empty(tree): True}
    for place in places:
        if sum(made.values()) >= count:
            break
        broken = copy.deepcopy(tree)
        list(_list_changes(broken))[place]()
        made.setdefault(ast.unparse(ast.fix_missing_locations(broken)), True)
    return [variant for variant, is_broken in made.items() if is_broken]


def _empty(tree: ast.Module) -> str:
    emptied = copy.deepcopy(tree)
    for node in ast.walk(emptied):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Return(ast.Constant(None))]
    return ast.unparse(ast.fix_missing_locations(emptied))


def _list_changes(tree: ast.Module) -> Iterator[_Change]:
    """List the changes of a tree, in an order that hangs on the tree alone; each works on this very tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPPED:
            yield _swap_first(node)
        elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in _SWAPPED:
            yield _set(node, "op", _SWAPPED[type(node.op)]())
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield _set(node, "value", not node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield _set(node, "value", node.value + 1)
        elif isinstance(node, ast.If | ast.While | ast.IfExp):
            yield _set(node, "test", ast.UnaryOp(ast.Not(), node.test))
        elif isinstance(node, ast.Return) and not _is_none(node.value):
            yield _set(node, "value", ast.Constant(None))


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _set(node: ast.AST, name: str, value: object) -> _Change:
    return lambda: setattr(node, name, value)


def _swap_first(node: ast.Compare) -> _Change:
    def change() -> None:
        node.ops[0] = _SWAPPED[type(node.ops[0])]()  # type: ignore[call-overload]

    return change
