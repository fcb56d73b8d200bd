"""The chat format: what a template of transformers renders, with one `<bos>` and no token out of a message."""

import functools
import json
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.text.test_tokenizer import SOURCE_TEXT, gemma_tokenizer, small_tokenizer

from codegemma.errors import InputError
from codegemma.text.chat_format import CHAT_TEMPLATE, Role, Turn, format_chat, format_chat_prompt
from codegemma.text.control_tokens import BOS_ID, END_OF_TURN_ID, RESERVED_IDS, START_OF_TURN_ID
from codegemma.text.tokenizer import Tokenizer

# What Gemma's own template renders (Gemma report, table 4, and its model card): white space trimmed, no system role.
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{{ message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁<"), max_size=30) | st.sampled_from(
    ["", "\n\n", " indented", "ends \t\n", "a < b\r\n", "\u3000wide\u3000", "\x1c", "def f(x):\n    return x\n"]
)
TOKENIZERS = [small_tokenizer, gemma_tokenizer]


def build_turns(texts: list[str], system: str | None) -> list[Turn]:
    roles: tuple[Literal["user"], Literal["model"]] = ("user", "model")
    opening = [] if system is None else [Turn("system", system)]
    return opening + [Turn(roles[place % 2], text) for place, text in enumerate(texts)]


@functools.cache
def open_with_transformers(load: Any, template: str) -> Any:
    transformers = pytest.importorskip("transformers", reason="the reference needs transformers: make setup-dev")
    backend = __import__("tokenizers").Tokenizer.from_str(load().to_json())
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>")
    theirs.chat_template = template
    return theirs


def render(load: Any, template: str, turns: list[Turn], *, is_prompt: bool) -> list[int]:
    messages = [{"role": "assistant" if role == "model" else role, "content": text} for role, text in turns]
    theirs = open_with_transformers(load, template)
    ids: list[int] = theirs.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=is_prompt, return_dict=False
    )
    return ids


@pytest.mark.parametrize("load", TOKENIZERS)
@given(texts=st.lists(PLAIN_TEXT, min_size=1, max_size=5))
def test_without_a_system_turn_it_is_what_gemmas_template_renders(load, texts):
    turns = build_turns(texts, None)
    assert format_chat(load(), turns)[0].tolist() == render(load, PLAIN_TEMPLATE, turns, is_prompt=False)
    if turns[-1].role == "user":
        assert format_chat_prompt(load(), turns) == render(load, PLAIN_TEMPLATE, turns, is_prompt=True)


@pytest.mark.parametrize("load", TOKENIZERS)
@given(texts=st.lists(PLAIN_TEXT, min_size=1, max_size=3), system=st.none() | PLAIN_TEXT)
def test_our_template_renders_what_we_spell_with_a_system_turn_too(load, texts, system):
    turns = build_turns(texts, system)
    assert format_chat(load(), turns)[0].tolist() == render(load, CHAT_TEMPLATE, turns, is_prompt=False)


def test_system_turn_opens_the_first_user_turn():
    tokenizer = small_tokenizer()
    ids = format_chat_prompt(tokenizer, [Turn("system", "Be brief."), Turn("user", "Why?")])
    assert ids[0] == BOS_ID
    assert ids[1] == START_OF_TURN_ID
    assert tokenizer.decode(ids) == "user\nBe brief.\n\nWhy?\nmodel\n"


@given(texts=st.lists(SOURCE_TEXT, min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0))
def test_prompt_is_what_stands_before_the_answer_in_training(texts):
    turns = build_turns(texts, "Be kind.")
    whole = format_chat(small_tokenizer(), turns)[0].tolist()
    prompt = format_chat_prompt(small_tokenizer(), turns[:-1])
    assert whole[: len(prompt)] == prompt


@given(texts=st.lists(SOURCE_TEXT, min_size=1, max_size=4), system=st.none() | SOURCE_TEXT)
def test_no_message_makes_a_control_token_and_bos_stands_once(texts, system):
    turns = build_turns(texts, system)
    ids = format_chat(small_tokenizer(), turns)[0]
    turn_ids = [START_OF_TURN_ID, END_OF_TURN_ID] * len(texts)
    assert [i for i in ids if i < RESERVED_IDS] == [BOS_ID, *turn_ids]


@given(texts=st.lists(SOURCE_TEXT, min_size=1, max_size=5))
def test_weights_count_the_models_words_and_the_end_of_its_turns(texts):
    tokenizer = small_tokenizer()
    ids, weights = format_chat(tokenizer, build_turns(texts, None))
    assert ids.shape == weights.shape
    answers = [text.strip() for text in texts[1::2]]
    counted = ids[weights == 1.0]
    assert set(np.unique(weights)) <= {0.0, 1.0}
    assert counted.tolist() == [i for text in answers for i in [*tokenizer.encode(text), END_OF_TURN_ID]]


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ((), "wanted one at least"),
        (("system",), "wanted one at least"),
        (("model",), "turn 1 is the model's"),
        (("user", "user"), "turn 2 is the user's"),
        (("user", "system"), "turn 2 is the system's"),
        (("system", "model"), "turn 1 is the model's"),
        (("user", "model"), "the last turn is the model's"),
    ],
)
def test_turns_out_of_place_are_refused_by_number(roles: tuple[Role, ...], message):
    with pytest.raises(InputError, match=message):
        format_chat_prompt(small_tokenizer(), [Turn(role, "x") for role in roles])


def test_unknown_role_names_the_known_ones():
    with pytest.raises(InputError, match="'tool'; known are system, user, model"):
        format_chat(small_tokenizer(), [Turn("tool", "x")])  # type: ignore[arg-type]


def test_half_a_character_is_refused_with_its_turn():
    with pytest.raises(InputError, match="turn 3 holds half a character"):
        format_chat(small_tokenizer(), [Turn("user", "a"), Turn("model", "b"), Turn("user", "\ud83d")])


def test_template_refuses_what_we_refuse():
    pytest.importorskip("transformers")
    refused: list[list[Role]] = [["user", "user"], ["model"], ["user", "system"]]
    for roles in refused:
        turns = [Turn(role, "x") for role in roles]
        with pytest.raises(Exception, match="turns must alternate"):
            render(small_tokenizer, CHAT_TEMPLATE, turns, is_prompt=True)


def test_a_models_own_template_without_a_generation_prompt_changes_nothing(tmp_path):
    """A folder may bring a template that opens no turn for the model: the one format is spelled here, and opens it."""
    deaf = PLAIN_TEMPLATE[: PLAIN_TEMPLATE.index("{% if add_generation_prompt")]
    (tmp_path / "tokenizer.json").write_text(small_tokenizer().to_json(), encoding="utf-8")
    (tmp_path / "chat_template.jinja").write_text(deaf)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": deaf}))
    tokenizer = Tokenizer.load(tmp_path)
    turns = build_turns(["Hi"], None)
    asked = format_chat_prompt(tokenizer, turns)
    assert asked == render(small_tokenizer, PLAIN_TEMPLATE, turns, is_prompt=True)
    assert asked.count(START_OF_TURN_ID) == 2
    assert render(small_tokenizer, deaf, turns, is_prompt=True).count(START_OF_TURN_ID) == 1
