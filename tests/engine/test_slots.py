"""Whose turn it is: urgent work waits for nothing less urgent, nobody shares a slot, everybody gets one."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.engine.slots import Slot, SlotTable, Turn, choose_slot
from codegemma.records import Priority
from codegemma.text.beginnings import count_common


def turn_of(priority: Priority, ids: tuple[int, ...] = (2,), session: str | None = None, wanted: int = 1) -> Turn:
    return Turn(priority, ids, session, lambda: False, wanted)


IDS = st.lists(st.integers(0, 3), max_size=40)


@given(IDS, IDS)
def test_common_ids_are_counted_from_the_start(one, other):
    count = count_common(one, other)
    assert one[:count] == other[:count]
    assert count in (len(one), len(other)) or one[count] != other[count]


def test_a_prompt_goes_where_it_was_read_before():
    table = SlotTable(4)
    first, second = turn_of(Priority.KEYSTROKE, (2, 5, 6, 7)), turn_of(Priority.KEYSTROKE, (2, 9, 9, 9))
    for turn in (first, second):
        assert table.take(turn)
    numbers = [turn.slots[0].number for turn in (first, second)]
    table.give_back(first, (2, 5, 6, 7, 8))
    table.give_back(second, (2, 9, 9, 9))
    again = turn_of(Priority.KEYSTROKE, (2, 5, 6, 7, 8, 8))
    assert table.take(again)
    assert again.slots[0].number == numbers[0] != numbers[1]


def test_chat_never_takes_a_slot_of_keystrokes_nor_they_its_own():
    table = SlotTable(3)
    chat = turn_of(Priority.CHAT)
    assert table.take(chat)
    assert chat.slots[0].number == 2
    keystrokes = [turn_of(Priority.KEYSTROKE) for _ in range(2)]
    assert all(table.take(turn) for turn in keystrokes)
    assert {turn.slots[0].number for turn in keystrokes} == {0, 1}
    assert not table.take(turn_of(Priority.KEYSTROKE), deadline_s=time.perf_counter())


def test_less_urgent_work_gives_way_and_waits():
    table = SlotTable(3)
    batch, chat = turn_of(Priority.BATCH), turn_of(Priority.CHAT)
    assert table.take(batch)
    assert not table.must_give_way(batch)
    assert table.take(chat)
    assert table.must_give_way(batch)
    assert not table.must_give_way(chat)
    keystroke = turn_of(Priority.KEYSTROKE)
    assert table.take(keystroke)
    assert table.must_give_way(chat)
    table.give_back(chat, (2, 3))
    assert not table.take(chat, deadline_s=time.perf_counter() + 0.01)
    table.give_back(keystroke, (2,))
    assert table.take(chat)


def test_choices_take_further_slots_as_far_as_there_are():
    table = SlotTable(4)
    turn = turn_of(Priority.KEYSTROKE, wanted=9)
    assert table.take(turn)
    assert sorted(slot.number for slot in turn.slots) == [0, 1, 2]


def test_little_in_common_is_worth_less_than_the_session_s_own_slot():
    slots = [Slot(0, (2, 5, 5, 5), "a", 9), Slot(1, (2, 6, 6, 6), "b", 1)]
    assert choose_slot(slots, (2, 7, 7, 7), "a").number == 0
    assert choose_slot(slots, (2, 7, 7, 7), None).number == 1
    assert choose_slot([*slots, Slot(2)], (2, 7, 7, 7), "a").number == 2


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_random_work_is_all_done_and_no_slot_is_shared(slots):
    table, lock, busy, done = SlotTable(slots), threading.Lock(), set[int](), list[int]()

    def work(number: int) -> None:
        turn = turn_of(Priority(number % 3), (2, number % 5), f"s{number % 4}")
        assert table.take(turn)
        number_of_slot = turn.slots[0].number
        with lock:
            assert number_of_slot not in busy
            busy.add(number_of_slot)
        time.sleep(0.0005 * (number % 3))
        with lock:
            busy.remove(number_of_slot)
            done.append(number)
        table.give_back(turn, (2, number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(done) == list(range(60))
