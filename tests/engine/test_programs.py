"""While sizes are compiled behind, steps take larger ones; afterwards their own."""

import threading

from codegemma.engine.programs import Programs, Size
from codegemma.engine.shapes import choose_shapes


def test_larger_sizes_are_taken_while_their_own_are_compiled() -> None:
    goes_on, compiled = threading.Event(), []

    def compile_size(size: Size) -> None:
        if size.rows == 4:
            goes_on.wait()
        compiled.append(size)

    programs = Programs(compile_size)
    assert programs.find(Size(4, 1, 128)) == Size(4, 1, 128)
    assert programs.compile([Size(32, 1, 256), Size(1, 8, 256)]) == 2
    programs.compile_behind([Size(1, 8, 256), Size(4, 1, 128), Size(4, 8, 128)])
    assert programs.find(Size(4, 1, 128)) == Size(32, 1, 256)
    assert programs.find(Size(1, 8, 128)) == Size(1, 8, 256)
    assert programs.find(Size(4, 8, 128)) is None
    goes_on.set()
    programs.close()
    assert programs.find(Size(4, 8, 128)) == Size(4, 8, 128)
    assert compiled[:3] == [Size(32, 1, 256), Size(1, 8, 256), Size(4, 1, 128)]


def test_all_sizes_hold_those_of_editors() -> None:
    shapes = choose_shapes(1000, 32, 16, is_accelerator=False)
    every = set(shapes.list_all())
    assert set(shapes.list_warm()) <= every
    assert Size(4, 8, 256) in every
    assert Size(16, 8, 256) not in every


def test_blocks_are_for_whoever_has_more_rows_than_are_drafted_for() -> None:
    few, many = (choose_shapes(300, rows, 16, is_accelerator=False) for rows in (4, 16))
    assert not list(few.list_blocks())
    assert {size.reach for size in many.list_blocks()} == set(many.reaches)
    assert not set(many.list_blocks()) & set(many.list_all())
