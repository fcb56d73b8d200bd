"""The hinge: what stands before the middle in training is the prompt in serving."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.test_tokenizer import SOURCE_TEXT, small_tokenizer

from codegemma.records import InfillMode, Neighbor
from codegemma.text.control_tokens import (
    BOS_ID,
    CONTROL_TOKENS,
    EOS_ID,
    FILE_SEPARATOR_ID,
    FIM_MIDDLE_ID,
    FIM_PREFIX_ID,
    FIM_SUFFIX_ID,
)
from codegemma.text.infill_format import encode_path, format_infill, format_prompt, format_whole, join_files

PATHS = st.none() | st.sampled_from(["a.py", "src/pkg/module.py", "weird <|fim_middle|>.py", "ünï.py"])
NEIGHBORS = st.lists(st.builds(Neighbor, st.sampled_from(["lib.py", "pkg/util.py"]), SOURCE_TEXT), max_size=2)


@given(SOURCE_TEXT, SOURCE_TEXT, SOURCE_TEXT, st.sampled_from(InfillMode), PATHS, NEIGHBORS)
@settings(deadline=None)
def test_training_tokens_before_the_middle_equal_the_serving_prompt(prefix, middle, suffix, mode, path, neighbors):
    tokenizer = small_tokenizer()
    middle_ids = tokenizer.encode(middle)
    # A training row as the feed builds it: other files of the pack shown whole, then the file with the hole.
    whole = [format_whole(encode_path(tokenizer, n.path), tokenizer.encode(n.text)) for n in neighbors]
    row, _ = join_files([
        *((ids, np.ones(len(ids), np.float32)) for ids in whole),
        format_infill(
            encode_path(tokenizer, path), tokenizer.encode(prefix), middle_ids, tokenizer.encode(suffix), mode, 1.0
        ),
    ])  # fmt: skip
    prompt = format_prompt(tokenizer, prefix=prefix, suffix=suffix, mode=mode, path=path, neighbors=neighbors)
    assert row[: len(prompt)].tolist() == prompt
    assert row[len(prompt) :].tolist() == [*middle_ids.tolist(), EOS_ID]


@given(SOURCE_TEXT, SOURCE_TEXT, st.sampled_from(InfillMode), PATHS)
@settings(deadline=None)
def test_prompt_has_exactly_the_sentinels_that_the_format_placed(prefix, suffix, mode, path):
    prompt = format_prompt(small_tokenizer(), prefix=prefix, suffix=suffix, mode=mode, path=path)
    control = [i for i in prompt if i in CONTROL_TOKENS]
    order = {
        InfillMode.PSM: [BOS_ID, FIM_PREFIX_ID, FIM_SUFFIX_ID, FIM_MIDDLE_ID],
        InfillMode.SPM: [BOS_ID, FIM_PREFIX_ID, FIM_SUFFIX_ID, FIM_MIDDLE_ID],
        InfillMode.SPM1: [BOS_ID, FIM_SUFFIX_ID, FIM_PREFIX_ID, FIM_MIDDLE_ID],
    }[mode]
    assert control == order
    if mode is InfillMode.SPM:
        assert prompt[prompt.index(FIM_PREFIX_ID) + 1] == FIM_SUFFIX_ID
        assert small_tokenizer().decode(prompt[prompt.index(FIM_MIDDLE_ID) + 1 :]) == prefix


def test_figure_2_of_the_report_is_spelled_as_printed():
    tokenizer = small_tokenizer()
    encode = tokenizer.encode
    files = [
        format_infill(encode_path(tokenizer, f"{name}.py"), encode("P"), encode("M"), encode("S"), InfillMode.PSM, 2.0)
        for name in ("first", "second")
    ]
    ids, weights = join_files(files)

    def spell(name: str) -> list[int]:
        prefix, suffix, middle = encode("P"), encode("S"), encode("M")
        return [*encode(f"{name}.py\n"), FIM_PREFIX_ID, *prefix, FIM_SUFFIX_ID, *suffix, FIM_MIDDLE_ID, *middle]

    assert ids.tolist() == [BOS_ID, *spell("first"), FILE_SEPARATOR_ID, *spell("second"), EOS_ID]
    # The middle and the token that ends it carry the middle's weight; <bos> is not predicted.
    end_of_first = ids.tolist().index(FILE_SEPARATOR_ID)
    assert weights[end_of_first - 1 : end_of_first + 1].tolist() == [2.0, 2.0]
    assert weights[0] == 0.0
    assert weights[-2:].tolist() == [2.0, 2.0]
    assert set(weights[1 : end_of_first - 1].tolist()) == {1.0}


def test_typing_on_appends_in_spm_but_for_the_piece_at_the_cursor():
    tokenizer = small_tokenizer()
    prompts = [
        format_prompt(tokenizer, prefix=prefix, suffix="\nreturn x\n", mode=InfillMode.SPM, path="a.py")
        for prefix in ("def f(x):\n    y = ", "def f(x):\n    y = (x + 1)")
    ]
    assert prompts[1][: len(prompts[0]) - 1] == prompts[0][:-1]
