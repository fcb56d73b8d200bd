"""llama.cpp's routes as its clients use them."""

import json

from tests.serve.conftest import SOURCE

BEFORE = SOURCE[: SOURCE.index("total = first")]
AFTER = SOURCE[SOURCE.index("    return total") :]
TIMINGS = ("prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second")
# What llama.vim asks for, in its order.
VIM_FIELDS = [
    "content", *(f"timings/{name}" for name in TIMINGS), "timings/predicted_n", "timings/predicted_ms",
    "timings/predicted_per_token_ms", "timings/predicted_per_second", "truncated", "tokens_cached",
]  # fmt: skip


def ask_as_vim(running, prefix=BEFORE, line="", **more):
    body = {
        "id_slot": 0, "input_prefix": prefix, "input_suffix": "\n" + AFTER, "prompt": line,
        "input_extra": [{"text": "x = 1\n", "time": [1, 2], "filename": ""}], "n_predict": 128, "stop": [],
        "n_indent": 4, "top_k": 40, "top_p": 0.9, "samplers": ["top_k", "top_p", "infill"], "stream": False,
        "cache_prompt": True, "t_max_prompt_ms": 500, "t_max_predict_ms": 250, "response_fields": VIM_FIELDS,
        "model": "",
    }  # fmt: skip
    status, reply = running.send("/infill", json.dumps(body | more).encode(), {"Authorization": "Bearer "})
    assert status == 200, reply
    return reply.decode()


def test_vim_is_answered_compactly_on_one_line_with_the_fields_it_asks_for(running):
    reply = ask_as_vim(running, line="    total = fir")
    assert '"content":"st - second"' in reply
    assert "\n" not in reply
    assert list(json.loads(reply)) == VIM_FIELDS


def test_vims_warm_up_reads_the_prompt_and_writes_nothing(running):
    reply = ask_as_vim(running, n_predict=0, response_fields=[""], samplers=[], t_max_prompt_ms=1)
    assert reply == "{}"
    assert running.parrot.generations[-1].max_new_tokens == 0


def test_a_blank_line_is_answered_with_its_indentation(running):
    prefix = SOURCE[: SOURCE.index("    total = first")]
    assert json.loads(ask_as_vim(running, prefix=prefix))["content"] == "    total = first - second"
