"""What the service does behind all doors: memory, preparation, budgets, adapters, line ends."""

import functools
import math
import time

import pytest
from tests.serve.conftest import SOURCE, serve
from tests.serve.parrot import Parrot

from codegemma.records import InfillMode, Priority, Usage
from codegemma.serve.adapter_folders import AdapterFolders
from codegemma.serve.choices import ServeChoices
from codegemma.serve.session import Budgets
from codegemma.serve.speed import SpeedMeter

START = SOURCE.index("first - second")
BEFORE, AFTER = SOURCE[:START], SOURCE[SOURCE.index("\n    return total") :]


def ask(running, prefix=BEFORE, suffix=AFTER, **more):
    return running.post("/infill", input_prefix=prefix, input_suffix=suffix, prompt="", **more)


def test_whoever_types_an_answer_is_answered_without_the_engine(running):
    whole = ask(running)
    asked = len(running.parrot.generations)
    assert whole["content"] == "first - second"
    for typed in range(1, len("first - second")):
        reply = ask(running, prefix=BEFORE + "first - second"[:typed])
        assert reply["content"] == "first - second"[typed:]
        assert reply["why"]["source"] == "typed"
        assert reply["timings"]["prompt_n"] == 0
    assert len(running.parrot.generations) == asked
    assert ask(running, prefix=BEFORE + "fox")["why"]["source"] == "engine"


def test_the_same_question_is_answered_from_memory_unless_the_answer_is_drawn(running):
    assert [ask(running)["why"]["source"] for _ in range(2)] == ["engine", "typed"]
    assert [ask(running, temperature=1.0, seed=7)["why"]["source"] for _ in range(2)] == ["engine", "engine"]


def test_a_remembered_answer_tells_its_tokens_and_a_rated_one_is_written_anew(running):
    for source in ("engine", "typed"):
        reply = ask(running, return_tokens=True)
        assert reply["why"]["source"] == source
        assert len(reply["tokens"]) == reply["tokens_predicted"] > 0
    rated = [ask(running, n_probs=1) for _ in range(2)]
    assert rated[0]["completion_probabilities"] == rated[1]["completion_probabilities"] != []


def test_another_suffix_or_another_wish_is_another_question(running):
    ask(running)
    assert ask(running, suffix=AFTER + "x" * 50)["why"]["source"] == "engine"
    assert ask(running, stop=["-"])["content"] == "first "


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_preparing(parrot: Parrot) -> bool:
    """Of batch work the warm-up alone asks for one token."""
    return any(g.priority is Priority.BATCH and g.max_new_tokens > 1 for g in parrot.generations)


def test_what_comes_after_an_acceptance_is_prepared_while_nobody_asks(tokenizer):
    with serve(Parrot(tokenizer, SOURCE), ServeChoices(prepares_next=True)) as running:
        suffix = "\n\n\nprint(add(1, 2), subtract(3, 1))\n"
        first = ask(running, suffix=suffix, n_predict=4)["content"]
        wait_for(lambda: is_preparing(running.parrot))
        wait_for(lambda: running.service.running == 0)
        time.sleep(0.05)
        second = ask(running, prefix=BEFORE + first, suffix=suffix, n_predict=4)
        assert second["why"]["source"] == "typed"
        assert SOURCE[START:].startswith(first + second["content"])
        assert second["content"]
        assert len([g for g in running.parrot.generations if g.priority is Priority.KEYSTROKE]) == 1


def test_preparation_is_given_up_for_any_request(tokenizer):
    parrot = Parrot(tokenizer, "start " + "abc " * 400, step_s=0.03)
    with serve(parrot, ServeChoices(prepares_next=True)) as running:
        ask(running, prefix="start ", n_predict=60, suffix="")
        wait_for(lambda: is_preparing(parrot))
        running.post("/completion", prompt="def", n_predict=1)
        wait_for(lambda: parrot.cancelled == 1)


@pytest.mark.parametrize("mode", list(InfillMode))
def test_a_keystroke_in_place_costs_the_engine_a_token_or_two(tokenizer, mode):
    with serve(Parrot(tokenizer, "nothing like it", modes=(mode,))) as running:
        counts = []
        for end in range(START, START + 30):
            reply = ask(running, prefix=SOURCE[:end], suffix="\n" + "value = 1\n" * 30)
            counts.append(reply["timings"]["prompt_n"])
            assert reply["timings"]["prompt_n"] + reply["timings"]["cache_n"] == reply["tokens_evaluated"]
        assert sorted(counts[1:])[len(counts) // 2] <= 2
        assert max(counts[1:]) <= 4


def test_an_adapter_is_chosen_by_the_models_name(tokenizer):
    with serve(Parrot(tokenizer, SOURCE), adapters=("mine",)) as running:
        reply = running.post("/v1/completions", model="mine", prompt="def", max_tokens=1)
        assert (reply["model"], running.parrot.generations[-1].adapter) == ("mine", "mine")
        reply = running.post("/v1/completions", model="other", prompt="def", max_tokens=1)
        assert (reply["model"], running.parrot.generations[-1].adapter) == ("parrot", None)
        assert [m["id"] for m in running.client.get("/v1/models").json()["data"]] == ["parrot", "mine"]


def test_an_adapter_is_chosen_by_the_files_folder_where_none_is_named(tokenizer):
    folders = AdapterFolders({"/work": "mine", "/work/web": "web"}, workspace="/work")
    with serve(Parrot(tokenizer, SOURCE), adapters=("mine", "web"), adapter_folders=folders) as running:
        for path, model, wanted in (
            ("/work/a.py", "", "mine"), ("web/b.py", "codegemma", "web"), ("file:///work/web/c.py", "mine", "mine"),
            ("/elsewhere/d.py", "", None), (None, "", None),
        ):  # fmt: skip
            body = {"input_prefix": f"{path}{model}", "input_suffix": "", "model": model}
            reply = running.client.post("/infill", json=body | ({} if path is None else {"path": path})).json()
            assert (reply["model"], running.parrot.generations[-1].adapter) == (wanted or "parrot", wanted)
            assert reply["why"]["cached_tokens"] + reply["why"]["evaluated_tokens"] == reply["tokens_evaluated"]


def test_a_file_that_looks_like_a_secret_is_not_even_completed(running):
    asked = len(running.parrot.generations)
    reply = running.post("/v1/completions", segments={"prefix": "KEY=", "filepath": "deploy/.env"})
    assert reply["choices"][0]["text"] == ""
    assert reply["why"]["place"] == "a file that looks like a secret"
    assert len(running.parrot.generations) == asked


def test_windows_line_ends_reach_the_model_as_they_are(running):
    ask(running, prefix="a = 1\r\nb", suffix="\r\nc")
    assert tokenizer_of(running).decode(running.parrot.generations[-1].prompt_ids).count("\r\n") == 2


def tokenizer_of(running):
    return running.service.tokenizer


def test_a_context_file_stands_first_with_its_path(running):
    running.post(
        "/infill", input_prefix="x", input_suffix="", input_extra=[{"text": "y = 1\n", "filename": "lib/y.py"}]
    )
    prompt = tokenizer_of(running).decode(running.parrot.generations[-1].prompt_ids)
    assert prompt.startswith("lib/y.py\ny = 1\n")


def test_a_deadline_makes_a_cold_prompt_shorter_and_says_what_was_dropped(running):
    running.service._speed.tokens_per_s = 1000.0
    reply = ask(running, prefix="value = 1\n" * 2000, t_max_prompt_ms=250)
    assert reply["tokens_evaluated"] <= 260
    assert any("prefix" in dropped for dropped in reply["why"]["dropped"])


def test_what_a_deadline_left_out_is_read_while_nobody_asks(tokenizer):
    """The next keystroke finds the wide prompt read, whatever its deadline; nothing was read twice in its stead."""
    prefix = "value = 1\n" * 120
    with serve(Parrot(tokenizer, SOURCE), ServeChoices(prepares_next=True)) as running:
        running.service._speed.tokens_per_s = 1000.0
        ask_in_time = functools.partial(ask, running, t_max_prompt_ms=250)
        narrow = ask_in_time(prefix=prefix)
        assert narrow["why"]["dropped"]
        wait_for(lambda: any(g.max_new_tokens == 0 for g in running.parrot.generations))
        wait_for(lambda: running.service.running == 0)
        wide = ask_in_time(prefix=prefix + "x")
        assert wide["tokens_evaluated"] > 2 * narrow["tokens_evaluated"]
        assert wide["timings"]["prompt_n"] <= 4
        assert (wide["why"]["place"], wide["why"]["dropped"]) == ("in place", [])
        assert tokenizer.decode(running.parrot.generations[-1].prompt_ids).count("value = 1\n") == 120


def test_budgets_never_exceed_the_window():
    budgets = SpeedMeter().choose_budgets(ServeChoices(), 512, 128, math.inf)
    assert budgets.prefix + budgets.suffix + budgets.context <= 512 - 64
    assert SpeedMeter().choose_budgets(ServeChoices(), 100_000, 128, math.inf) == Budgets(3072, 768, 2048)


def test_a_cold_prompt_is_short_until_the_speed_is_known():
    meter, choices = SpeedMeter(), ServeChoices(least_tokens=200)
    first = meter.choose_budgets(choices, 8192, 128, None)
    assert 190 <= first.prefix + first.suffix + first.context <= 200
    meter.take(Usage(prompt_tokens=200, evaluated_tokens=200, prompt_s=0.05))
    assert meter.choose_budgets(choices, 100_000, 128, None) == Budgets(3072, 768, 2048)
