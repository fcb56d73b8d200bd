"""The prompt of a session: training's spelling when fresh, the same bytes and few new ids while typing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.records import InfillMode, Neighbor
from codegemma.serve.asks import InfillAsk
from codegemma.serve.choices import ServeChoices
from codegemma.serve.session import IN_PLACE, Budgets, Session
from codegemma.serve.spelling import Spelling
from codegemma.text.beginnings import count_common
from codegemma.text.control_tokens import FIM_MIDDLE_ID, RESERVED_IDS
from codegemma.text.infill_format import format_prompt
from codegemma.text.tokenizer import Tokenizer, train_tokenizer

SOURCE = (
    "import os\n\n\ndef add(first, second):\n    '''Add – both.'''\n    return first + second\n\n\nprint(add(1, 2))\n"
)
TOKENIZER = train_tokenizer([SOURCE] * 9, vocab_size=480)
ROOMY = Budgets(prefix=10_000, suffix=10_000, context=10_000)
MODES = list(InfillMode)
TEXTS = st.text(alphabet="ab(\n é_1𝄞", max_size=40)


def open_session(mode=InfillMode.SPM, tokenizer: Tokenizer = TOKENIZER, **choices) -> Session:
    return Session("s", "owner", tokenizer, mode, ServeChoices(**choices))


def common(left, right) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


@given(TEXTS, TEXTS, st.sampled_from(MODES), st.booleans())
def test_a_fresh_prompt_is_trainings_spelling_of_the_text_before_what_is_healed(prefix, suffix, mode, has_healing):
    neighbors = [Neighbor("a.py", "x = 1\n")]
    layout = open_session(mode, has_healing=has_healing).lay_out(
        InfillAsk(prefix, suffix, "b.py"), lambda: neighbors, ROOMY
    )
    kept = prefix[: len(prefix) - len(layout.healing.decode())]
    wanted = format_prompt(TOKENIZER, prefix=kept, suffix=suffix, mode=mode, path="b.py", neighbors=neighbors)
    if layout.healing and mode is not InfillMode.PSM:  # ids of the whole without the last; the text before may merge
        wanted = wanted[: len(wanted) - len(TOKENIZER.encode(kept)) - (mode is InfillMode.SPM1)]
        wanted += TOKENIZER.encode(prefix).tolist()[:-1] + [FIM_MIDDLE_ID] * (mode is InfillMode.SPM1)
    assert list(layout.prompt_ids) == wanted
    assert prefix.endswith(layout.healing.decode())


def read_prefix(layout, suffix) -> str:
    """What of the text before the cursor a prompt shows."""
    shown = TOKENIZER.decode_bytes([i for i in layout.prompt_ids if i >= RESERVED_IDS]) + layout.healing
    text: str = shown.decode()
    return text.replace(suffix, "", 1)


@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=8), st.sampled_from(MODES), st.booleans(), st.integers(1, 30))
def test_in_one_place_every_byte_of_the_prefix_is_shown(changes, mode, has_healing, folded_tokens):
    suffix = "\nSUFFIX\n"
    session = open_session(mode, has_healing=has_healing, folded_tokens=folded_tokens)
    text = SOURCE
    for change in changes:
        text = text[: -len(change) // 2] + change if len(change) % 3 == 0 and change else text + change
        layout = session.lay_out(InfillAsk(text, suffix), list, ROOMY)
        assert read_prefix(layout, suffix) == text


@pytest.mark.parametrize("mode", MODES)
def test_a_keystroke_in_place_costs_a_token_or_two(mode):
    session = open_session(mode)
    typed = SOURCE + "def subtract(first, second):\n    return first - second\n"
    previous: tuple[int, ...] = ()
    costs = []
    for end in range(len(SOURCE), len(typed) + 1):
        layout = session.lay_out(InfillAsk(typed[:end], "\nprint(1)\n" * 20), list, ROOMY)
        costs.append(max(len(layout.prompt_ids) - common(previous, layout.prompt_ids), 1))
        previous = layout.prompt_ids
    assert layout.place == IN_PLACE
    assert np.median(costs[1:]) <= 2
    assert max(costs[1:]) <= 4


def test_without_its_fast_path_psm_reads_the_suffix_at_every_keystroke():
    session = open_session(InfillMode.PSM, folded_tokens=0)
    suffix = "\nprint(1)\n" * 20
    first = session.lay_out(InfillAsk(SOURCE, suffix), list, ROOMY)
    second = session.lay_out(InfillAsk(SOURCE + "a = b", suffix), list, ROOMY)
    assert len(second.prompt_ids) - common(first.prompt_ids, second.prompt_ids) > 40


def test_a_window_that_slides_keeps_the_longer_older_text():
    lines = [f"value_{n} = {n}\n" for n in range(300)]
    session = open_session()
    session.lay_out(InfillAsk("".join(lines[:256]), ""), list, ROOMY)
    layout = session.lay_out(InfillAsk("".join(lines[44:300]), ""), list, ROOMY)
    assert (layout.place, layout.text) == (IN_PLACE, "".join(lines))


def test_accepted_text_keeps_the_ids_that_the_model_wrote():
    session = open_session()
    layout = session.lay_out(InfillAsk(SOURCE + "pri", ""), list, ROOMY)
    odd = [int(i) for char in "print(add" for i in TOKENIZER.encode(char)]
    healed = layout.healing.decode()
    written = odd[len("pri") - len(healed) :]
    session.note_written(layout, "nt(add", written)
    accepted = session.lay_out(InfillAsk(SOURCE + "print(add", ""), list, ROOMY)
    wanted = layout.prompt_ids + tuple(written)
    assert accepted.prompt_ids == wanted[:-1]
    longer = session.lay_out(InfillAsk(SOURCE + "print(add(", ""), list, ROOMY)
    assert longer.prompt_ids[: len(wanted)] == wanted


def test_a_long_prefix_is_anchored_at_a_step_of_lines_and_stays_there():
    session = open_session(has_healing=False)
    text = "".join(f"value_{n} = {n}\n" for n in range(600))
    budgets = Budgets(prefix=2000, suffix=10, context=0)
    first = session.lay_out(InfillAsk(text, "z\n" * 99), list, budgets)
    assert len(first.prompt_ids) < 2000
    shown = read_prefix(first, "z\n" * 3).lstrip("z\n")
    assert text.endswith(shown)
    assert text[: -len(shown)].count("\n") % 64 == 0
    assert any("prefix" in d for d in first.dropped) and any("suffix" in d for d in first.dropped)
    second = session.lay_out(InfillAsk(text + "x", "z\n" * 99), list, budgets)
    assert second.prompt_ids[: len(first.prompt_ids)] == first.prompt_ids


@pytest.mark.parametrize("mode", MODES)
def test_a_session_is_widened_only_when_the_wider_prompt_was_read(mode):
    session = open_session(mode)
    ask = InfillAsk("value = 1\n" * 60, "end\n")
    narrow = session.lay_out(ask, list, Budgets(prefix=100, suffix=10, context=0))
    wanted = open_session(mode).lay_out(ask, list, ROOMY)
    widened = session.widen(ask, list, ROOMY)
    assert widened is not None
    fork, layout = widened
    assert (layout.prompt_ids, layout.healing, layout.dropped) == (wanted.prompt_ids, wanted.healing, ())
    assert fork.read_as != session.read_as
    assert session.lay_out(ask, list, ROOMY).prompt_ids == narrow.prompt_ids
    session.adopt(fork)
    grown = session.lay_out(InfillAsk(ask.prefix + "x", "end\n"), list, Budgets(prefix=100, suffix=10, context=0))
    assert grown.prompt_ids[: len(layout.prompt_ids)] == layout.prompt_ids
    assert session.widen(ask, list, ROOMY) is None


@pytest.mark.parametrize(
    ("after", "place"),
    [
        ("\nend\n", IN_PLACE),
        (")\nend\n", IN_PLACE),
        ("\nend\nmore\n", "text after the cursor changed"),
        ("\nother\n", "text after the cursor changed"),
    ],
)
def test_the_suffix_is_frozen_while_only_closing_brackets_come(after, place):
    session = open_session()
    session.lay_out(InfillAsk(SOURCE, "\nend\n"), list, ROOMY)
    assert session.lay_out(InfillAsk(SOURCE + "(", after), list, ROOMY).place == place


def test_where_much_is_sent_the_end_of_the_suffix_may_be_the_edge_of_a_window():
    session = open_session()
    suffix = "\nvalue = 1\n" * 100
    session.lay_out(InfillAsk(SOURCE, suffix), list, ROOMY)
    assert session.lay_out(InfillAsk(SOURCE + "(", suffix + "end\n"), list, ROOMY).place == IN_PLACE
    assert session.lay_out(InfillAsk(SOURCE + "(", suffix[:5] + suffix[6:]), list, ROOMY).place != IN_PLACE


def test_of_a_suffix_without_end_a_session_keeps_what_it_may_show():
    session, budgets = open_session(), Budgets(prefix=100, suffix=100, context=0)
    suffix = "\n" + "x = 1\n" * 200_000
    places = [session.lay_out(InfillAsk(prefix, suffix, "b.py"), list, budgets).place for prefix in ("a", "ab")]
    assert places[1] == IN_PLACE
    assert len(session.suffix) < len(suffix) // 2


@given(TEXTS, TEXTS)
def test_common_characters_are_counted(left, right):
    assert count_common(left, right) == common(left, right)


@given(st.lists(TEXTS, max_size=8))
def test_typing_on_spells_as_if_all_were_encoded(parts):
    spelling = Spelling(TOKENIZER)
    for end in range(len(parts) + 1):
        spelling.change("".join(parts[:end]))
    assert spelling.ids == TOKENIZER.encode("".join(parts)).tolist()
