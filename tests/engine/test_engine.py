"""The JAX engine as its callers see it: through texts (`GeneratorCompleter`) and through token ids."""

import dataclasses
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.engine.penalties import penalise

from codegemma.engine import block, compute, device, rate
from codegemma.engine.completer import GeneratorCompleter, collect
from codegemma.engine.engine import Engine
from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params, compute_logits, forward
from codegemma.model.infill_modes import read_infill_modes
from codegemma.model.weights import save_model
from codegemma.records import (
    Completer,
    CompletionDelta,
    Generation,
    Generator,
    InfillMode,
    Priority,
    Request,
    Sampling,
    Scorer,
    StopReason,
    StopRules,
    Turn,
)
from codegemma.text.chat_format import format_chat_prompt
from codegemma.text.control_tokens import BOS_ID, STOP_IDS
from codegemma.text.tokenizer import Tokenizer

REQUESTS = [
    Request("def add(", ")\n", path="a.py", max_new_tokens=20),
    Request("x", "", max_new_tokens=3, mode=InfillMode.SPM),
    Request("def add(first, second):\n    return ", "\n" * 9, path="tests/test_b.py", max_new_tokens=40),
    Request("", "print(add(1, 2))\n", max_new_tokens=11),
    Request("é – ü", "", max_new_tokens=17, mode=InfillMode.SPM),
]


@partial(jax.jit, static_argnames="config")
def compute_row_logits(params: Params, config: GemmaConfig, row: jax.Array) -> jax.Array:
    positions = jnp.arange(row.shape[1], dtype=jnp.int32)[None]
    return compute_logits(params, forward(params, config, row, jnp.ones_like(row), positions)[0])


def compute_full_logits(engine: Engine, ids: list[int]) -> np.ndarray:
    """One length for all, so that it is compiled once: what stands behind a token does not reach it."""
    row = jnp.asarray([ids + [0] * (engine.max_context_tokens - len(ids))], jnp.int32)
    return np.asarray(compute_row_logits(engine.params, engine.config, row))[: len(ids)]


def generate_uncached(engine: Engine, request: Request) -> list[int]:
    """The slow truth: the whole row again for every token."""
    prompt = GeneratorCompleter(engine).build_prompt(request)
    ids = list(prompt)
    while len(ids) - len(prompt) < request.max_new_tokens and len(ids) < engine.max_context_tokens:
        chosen = int(compute_full_logits(engine, ids)[-1].argmax())
        if chosen in STOP_IDS:
            break
        ids.append(chosen)
    return ids[len(prompt) :]


def spell(engine: Engine, request: Request = REQUESTS[0], **fields: object) -> Generation:
    prompt = tuple(GeneratorCompleter(engine).build_prompt(request))
    return Generation(prompt, **{"max_new_tokens": request.max_new_tokens, **fields})  # type: ignore[arg-type]


def write(engine: Engine, generation: Generation) -> list[CompletionDelta]:
    deltas = list(engine.generate(generation))
    assert sum(delta.stop_reason is not None for delta in deltas) == generation.choices
    assert all((delta.usage is None) == (delta.stop_reason is None) for delta in deltas)
    return deltas


def join(deltas: list[CompletionDelta], choice: int = 0) -> tuple[str, tuple[int, ...], StopReason | None]:
    told = [delta for delta in deltas if delta.choice == choice]
    return "".join(d.text for d in told), sum((d.token_ids for d in told), ()), told[-1].stop_reason


def point_at(engine: Engine, *token_ids: int) -> Engine:
    """A model that always writes the first id, and finds the others less and less probable."""
    params = {name: jnp.zeros_like(value) for name, value in engine.params.items()}
    params["emb"] = params["emb"].at[:, 0].set(1.0)
    for rank, token_id in enumerate(token_ids):
        params["emb"] = params["emb"].at[token_id, 0].set(3.0 - rank / 8)
    return Engine(params, engine.config, engine.tokenizer)


def test_engine_keeps_the_protocols(engine: Engine) -> None:
    assert isinstance(engine, Generator)
    assert isinstance(engine, Scorer)
    assert isinstance(GeneratorCompleter(engine), Completer)
    assert engine.describe()["slots"] == 8


def test_streamed_batched_and_uncached_greedy_are_the_same_tokens(engine: Engine) -> None:
    completer = GeneratorCompleter(engine)
    batched = completer.complete_all(REQUESTS)
    for request, completion in zip(REQUESTS, batched, strict=True):
        assert list(completion.token_ids) == generate_uncached(engine, request)
        assert join(list(completer.complete(request))) == (
            completion.text,
            completion.token_ids,
            completion.stop_reason,
        )
        assert completion.prompt_tokens == len(completer.build_prompt(request))
    assert len({c.token_ids for c in batched}) == len(batched)


def test_conversation_is_spelled_as_in_training_and_a_stop_string_ends_its_answer(engine: Engine) -> None:
    completer = GeneratorCompleter(engine)
    turns = (Turn("user", "a?"), Turn("model", "b"), Turn("user", "c?"))
    request = Request("ad", "", turns=turns, max_new_tokens=12)
    begun = engine.tokenizer.encode("ad").tolist()
    assert completer.build_prompt(request) == format_chat_prompt(engine.tokenizer, turns) + begun
    whole = completer.complete_all([request])[0]
    stop = next(c for c in whole.text[1:] if c not in whole.text[: whole.text.index(c)])
    ended = completer.complete_all([dataclasses.replace(request, stop_strings=(stop,))])[0]
    assert (ended.text, ended.stop_reason) == (whole.text[: whole.text.index(stop)], StopReason.STRING)
    with pytest.raises(InputError, match="no room for an answer"):
        completer.build_prompt(dataclasses.replace(request, turns=(Turn("user", "word " * 99),)))


def test_sampled_answer_is_the_same_alone_in_a_batch_and_in_any_order(engine: Engine) -> None:
    completer = GeneratorCompleter(engine)
    sampling = [Sampling(0.9, top_p=0.95), Sampling(0.7), Sampling(1.1, top_k=9), Sampling(1.0, min_p=0.1), Sampling()]
    asked = [dataclasses.replace(r, sampling=s) for r, s in zip(REQUESTS, sampling, strict=True)] * 3
    asked = [dataclasses.replace(r, sampling=dataclasses.replace(r.sampling, seed=n)) for n, r in enumerate(asked)]
    together = completer.complete_all(asked)
    backwards = completer.complete_all(asked[::-1])[::-1]
    alone = [completer.complete_all([request])[0] for request in asked]
    assert together == backwards == alone
    assert len({c.token_ids for c in together}) > 9


@pytest.mark.parametrize("stop_id", sorted(STOP_IDS))
def test_control_token_ends_the_answer_and_is_not_part_of_it(engine: Engine, stop_id: int) -> None:
    biased = Sampling(logit_bias=((stop_id, 1000.0),))
    deltas = write(engine, spell(engine, sampling=biased))
    assert join(deltas) == ("", (), StopReason.CONTROL_TOKEN)
    going_on = write(engine, spell(engine, sampling=biased, stop=StopRules(control_tokens_end=False)))
    assert join(going_on) == ("", (stop_id,) * 20, StopReason.MAX_NEW_TOKENS)


def test_answer_ends_at_the_asked_number_of_tokens_or_where_the_window_ends(engine: Engine) -> None:
    always = point_at(engine, int(engine.tokenizer.encode("a")[0]))
    assert join(write(always, spell(engine, max_new_tokens=5)))[1:] == (
        tuple(engine.tokenizer.encode("a").tolist() * 5),
        StopReason.MAX_NEW_TOKENS,
    )
    deltas = write(always, spell(engine, max_new_tokens=500))
    text, ids, reason = join(deltas)
    assert (text, reason) == ("a" * len(ids), StopReason.CONTEXT_FULL)
    usage = deltas[-1].usage
    assert usage is not None
    assert usage.prompt_tokens + len(ids) == engine.max_context_tokens
    # It writes one letter again and again: nearly all of it is guessed, in few steps.
    assert usage.accepted_tokens > len(ids) // 2


def test_cut_off_character_ends_as_a_replacement_mark(engine: Engine) -> None:
    first_byte = int(engine.tokenizer.encode("𝒳")[0])
    told = join(write(point_at(engine, first_byte), spell(engine, max_new_tokens=2)))
    assert told == ("\ufffd\ufffd", (first_byte,) * 2, StopReason.MAX_NEW_TOKENS)


def test_stop_rules_end_the_answer_in_decoding(engine: Engine) -> None:
    always = point_at(engine, int(engine.tokenizer.encode("a")[0]))
    deltas = write(always, spell(engine, max_new_tokens=40, stop=StopRules(strings=("aaaaa",))))
    text, ids, reason = join(deltas)
    assert (text, reason) == ("", StopReason.STRING)
    assert len(ids) == 5


def test_what_was_read_is_not_read_again(engine: Engine) -> None:
    fresh = Engine(engine.params, engine.config, engine.tokenizer)
    first = write(fresh, spell(fresh))
    usage = first[-1].usage
    assert usage is not None
    assert (usage.cached_tokens, usage.evaluated_tokens) == (0, usage.prompt_tokens)
    prompt, written = spell(fresh).prompt_ids, join(first)[1]
    for known, more in ((prompt[:-1], 1), ((*prompt, *written[:7]), 1), (prompt, 2), (prompt[:5], 9)):
        asked = (*known, *range(300, 300 + more))
        usage = write(fresh, Generation(asked, max_new_tokens=3))[-1].usage
        assert usage is not None
        assert (usage.cached_tokens, usage.evaluated_tokens) == (len(known), more)


def test_reading_without_writing_warms_a_prompt(engine: Engine) -> None:
    fresh = Engine(engine.params, engine.config, engine.tokenizer)
    assert join(write(fresh, spell(fresh, max_new_tokens=0))) == ("", (), StopReason.MAX_NEW_TOKENS)
    usage = write(fresh, spell(fresh))[-1].usage
    assert usage is not None
    assert usage.evaluated_tokens == 1


def test_choices_share_one_reading_and_each_is_what_its_seed_gives_alone(engine: Engine) -> None:
    fresh = Engine(engine.params, engine.config, engine.tokenizer)
    deltas = write(fresh, spell(fresh, choices=5, sampling=Sampling(1.0, seed=40)))
    for choice in range(5):
        alone = write(engine, spell(engine, sampling=Sampling(1.0, seed=40 + choice)))
        assert join(deltas, choice) == join(alone)
    usages = {d.choice: d.usage for d in deltas if d.usage is not None}
    assert [usages[c].evaluated_tokens for c in range(5)] == [usages[0].prompt_tokens, 1, 1, 1, 1]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.8, top_p=0.9, seed=5)])
def test_guesses_change_nothing(engine: Engine, sampling: Sampling) -> None:
    plain = join(write(engine, spell(engine, sampling=sampling)))
    deltas = write(engine, spell(engine, sampling=sampling, lookup_ids=(7, 8, *spell(engine).prompt_ids, *plain[1])))
    assert join(deltas) == plain
    usage = deltas[-1].usage
    assert usage is not None
    assert usage.accepted_tokens >= 7
    wrong = tuple(i + 1 for i in plain[1])
    assert join(write(engine, spell(engine, sampling=sampling, lookup_ids=wrong))) == plain


def test_healed_answer_starts_with_what_was_taken_back_and_tells_only_the_rest(engine: Engine) -> None:
    for owed in (b"ret", b"  first", "é".encode(), b"\n    "):
        deltas = write(engine, spell(engine, healing=owed, sampling=Sampling(1.0, seed=2)))
        text, ids, _ = join(deltas)
        assert engine.tokenizer.decode(ids) == owed.decode() + text
    pieces = [engine.tokenizer.decode_bytes([i]) for i in range(engine.tokenizer.vocab_size)]
    word = max((piece for piece in pieces if piece.isalpha()), key=len)
    letter, whole, owed = pieces.index(word[:1]), pieces.index(word), word[:2]
    assert len(word) > 2
    # The most probable of those that may come next, whether it pays a part of what is owed or more.
    told = join(write(point_at(engine, letter, whole), spell(engine, healing=owed, max_new_tokens=1)))
    assert told == ("", (letter,), StopReason.MAX_NEW_TOKENS)
    told = join(write(point_at(engine, whole, letter), spell(engine, healing=owed, max_new_tokens=1)))
    assert told == (word[2:].decode(), (whole,), StopReason.MAX_NEW_TOKENS)


def test_logprobs_are_those_of_a_teacher_forced_pass(engine: Engine) -> None:
    generation = spell(engine, top_logprobs=3, sampling=Sampling(1.0, seed=6, repetition_penalty=1.3))
    deltas = write(engine, generation)
    ids = join(deltas)[1]
    told = [logprob for delta in deltas for logprob in delta.logprobs]
    assert [logprob.token_id for logprob in told] == list(ids)
    (score,) = engine.score([(generation.prompt_ids, ids)])
    np.testing.assert_allclose([logprob.logprob for logprob in told], score.logprobs, atol=1e-3)
    assert [logprob.top[0][0] for logprob in told] == score.argmax_ids.tolist()
    assert all(len(logprob.top) == 3 for logprob in told)


@pytest.mark.parametrize("last", [None, 7])
def test_penalties_count_prompt_and_answer_by_their_definitions(engine: Engine, last: int | None) -> None:
    sampling = Sampling(
        repetition_penalty=1.1, presence_penalty=0.7, frequency_penalty=0.9, penalized_tokens=last,
        logit_bias=tuple((token_id, -1000.0) for token_id in sorted(STOP_IDS)),
    )  # fmt: skip
    generation = spell(engine, max_new_tokens=16, sampling=sampling)
    ids = list(generation.prompt_ids)
    while len(ids) < len(generation.prompt_ids) + 16:
        ids.append(int(penalise(compute_full_logits(engine, ids)[-1], ids, sampling).argmax()))
    assert join(write(engine, generation))[1] == tuple(ids[-16:])
    plain = dataclasses.replace(generation, sampling=Sampling(logit_bias=sampling.logit_bias))
    assert join(write(engine, plain))[1] != tuple(ids[-16:])


def test_budgets_hold_and_what_is_there_is_told(engine: Engine) -> None:
    always = point_at(engine, int(engine.tokenizer.encode("a")[0]))
    late = write(always, spell(always, prompt_budget_s=0.0, choices=2))
    assert join(late, 0) == join(late, 1) == ("", (), StopReason.PROMPT_BUDGET)
    assert join(write(always, spell(always, new_budget_s=0.0))) == (
        "a",
        tuple(engine.tokenizer.encode("a").tolist()),
        StopReason.NEW_BUDGET,
    )


def test_closing_one_stream_stops_it_and_no_other(engine: Engine) -> None:
    asked = [spell(engine, request, max_new_tokens=40) for request in REQUESTS]
    wanted = [join(write(engine, generation)) for generation in asked]
    streams = [engine.generate(generation) for generation in asked * 4]
    for stream in streams[::2]:
        next(stream, None)
        stream.close()
        stream.close()
        assert list(stream) == []
    for place, stream in list(enumerate(streams))[1::2]:
        assert join(list(stream)) == wanted[place % len(asked)]
    del streams, stream
    wait_until_idle(engine)


def wait_until_idle(engine: Engine) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        about = engine.describe()
        if about["available_pages"] * 16 == about["cache_tokens"] and not about["active"] + about["waiting"]:
            return
        time.sleep(0.01)
    raise AssertionError(f"not idle: {engine.describe()}")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batch_work_in_blocks_gives_the_same_answers(
    engine: Engine, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks: list[int] = []
    write_block = block.write_block

    def count(*args: Any, **how: Any) -> Any:
        blocks.append(args[5])
        return write_block(*args, **how)

    monkeypatch.setattr(device, "write_block", count)
    asked = [
        spell(
            engine, request, max_new_tokens=new, priority=Priority.BATCH,
            sampling=Sampling(temperature, seed=n), stop=StopRules(control_tokens_end=bool(n % 2), strings=("\n\n",)),
        )
        for n, (request, new) in enumerate(zip(REQUESTS * 2, (1, 3, 50, 8, 9, 20, 2, 40, 17, 30), strict=True))
    ]  # fmt: skip
    streams = [engine.generate(generation) for generation in asked]
    streams[4].close()
    told = [join(list(stream)) for place, stream in enumerate(streams) if place != 4]
    assert blocks
    blocks.clear()
    # Whoever is alone, or not batch work, has each of its tokens looked at.
    alone = [join(write(engine, dataclasses.replace(g, priority=Priority.CHAT))) for g in asked]
    assert told == [*alone[:4], *alone[5:]]
    assert not blocks
    wait_until_idle(engine)


def test_keystroke_overtakes_batch_work(engine: Engine) -> None:
    batch = [engine.generate(spell(engine, REQUESTS[2], priority=Priority.BATCH)) for _ in range(60)]
    join(write(engine, spell(engine, max_new_tokens=4)))
    assert engine.describe()["waiting"] > 0
    assert len({join(list(stream)) for stream in batch}) == 1


def test_many_threads_get_their_own_answers(engine: Engine) -> None:
    asked = [spell(engine, r, sampling=Sampling(1.0, seed=n)) for n, r in enumerate(REQUESTS * 3)]
    wanted = [join(write(engine, generation)) for generation in asked]
    found: dict[int, object] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: join(write(engine, asked[n]))})) for n in range(len(asked))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(len(asked))] == wanted


def test_pages_run_short_and_every_answer_is_still_the_same(engine: Engine) -> None:
    small = Engine(engine.params, engine.config, engine.tokenizer, rows=4, cache_tokens=0)
    assert small.describe()["cache_tokens"] < 2 * engine.max_context_tokens
    asked = [spell(engine, r, sampling=Sampling(1.0, seed=n)) for n, r in enumerate(REQUESTS * 2)]
    streams = [small.generate(generation) for generation in asked]
    assert [join(list(stream)) for stream in streams] == [join(write(engine, generation)) for generation in asked]


def test_error_of_a_step_is_told_to_all_who_wait_and_the_engine_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Engine(engine.params, engine.config, engine.tokenizer)
    with monkeypatch.context() as patch:
        patch.setattr(fresh._device, "run", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
        streams = [fresh.generate(spell(fresh)) for _ in range(3)]
        for stream in streams:
            with pytest.raises(MemoryError, match="no room"):
                list(stream)
    assert join(write(fresh, spell(fresh))) == join(write(engine, spell(engine)))


def test_closed_engine_ends_its_streams_and_refuses_more(engine: Engine) -> None:
    fresh = Engine(engine.params, engine.config, engine.tokenizer)
    streams = [fresh.generate(spell(fresh, REQUESTS[2], priority=Priority.BATCH)) for _ in range(50)]
    fresh.close()
    assert collect(streams[-1]).stop_reason is StopReason.CANCELLED
    with pytest.raises(InputError, match="closed"):
        fresh.generate(spell(fresh))


def test_choices_of_one_token_share_a_pass_and_are_rated_as_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [tuple(engine.tokenizer.encode(text).tolist()) for text in ("def f(x):", "a", "import json as the")]
    items = [((BOS_ID, *prompt), (token,)) for prompt in prompts for token in (300, 301, 299, 400)]
    # Two tokens are rated by the way of all longer continuations; what stands first hangs on the prompt alone.
    alone = [score.logprobs[0] for score in engine.score([(prompt, (*token, 301)) for prompt, token in items])]
    read: list[int] = []
    rated = compute.rate_choices

    def count(*args: Any) -> Any:
        read.append(int((args[3] > 1).sum()))
        return rated(*args)

    monkeypatch.setattr(rate, "rate_choices", count)
    scores = engine.score(items)
    np.testing.assert_allclose([score.logprobs[0] for score in scores], alone, atol=1e-4)
    assert len({int(score.argmax_ids[0]) for score in scores[:4]}) == 1
    assert sum(read) == len(prompts)


def test_score_equals_the_log_softmax_of_a_full_forward(engine: Engine) -> None:
    draw = np.random.default_rng(0)
    items = []
    for length in (2, 3, 31, 32, 33, 50, 63, 64, 40, 41):
        ids = [BOS_ID, *draw.integers(108, engine.config.vocab_size, length - 1).tolist()]
        first = int(draw.integers(1, length))
        items.append((ids[:first], ids[first:]))
    for (prompt, continuation), score in zip(items, engine.score(items), strict=True):
        logits = compute_full_logits(engine, prompt + continuation)[len(prompt) - 1 : -1]
        wanted = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(continuation)), continuation]
        np.testing.assert_allclose(score.logprobs, wanted, atol=1e-4)
        assert score.argmax_ids.tolist() == logits.argmax(-1).tolist()


def test_score_of_a_greedy_answer_is_all_argmax(engine: Engine) -> None:
    completer = GeneratorCompleter(engine)
    completion = completer.complete_all([REQUESTS[2]])[0]
    prompt = completer.build_prompt(REQUESTS[2])
    right, wrong = engine.score([(prompt, completion.token_ids), (prompt, [*completion.token_ids[:-1], 200])])
    assert tuple(right.argmax_ids) == tuple(wrong.argmax_ids) == completion.token_ids


def test_nothing_to_score_is_a_score_of_nothing(engine: Engine) -> None:
    assert engine.score([]) == []
    assert GeneratorCompleter(engine).complete_all([]) == []
    assert len(engine.score([([BOS_ID], [])])[0].logprobs) == 0


@pytest.mark.parametrize(
    ("prompt", "continuation", "message"),
    [
        ([BOS_ID], [9999], "token id 9999"),
        ([-1], [3], "token id -1"),
        ([], [3], "empty"),
        ([2] * 90, [9] * 9, "99 tok"),
    ],
)
def test_ids_that_the_model_cannot_read_are_refused(
    engine: Engine, prompt: list[int], continuation: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        engine.score([([BOS_ID], [200]), (prompt, continuation)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prompt_ids": ()}, "empty"),
        ({"prompt_ids": (2, 9999)}, "token id 9999"),
        ({"prompt_ids": (2,) * 65}, "65 tokens"),
        ({"max_new_tokens": -1}, "max_new_tokens -1"),
        ({"choices": 0}, "choices 0"),
        ({"top_logprobs": 99}, "top_logprobs 99"),
        ({"new_budget_s": float("nan")}, "new_budget_s nan"),
        ({"adapter": "mine"}, "no adapter 'mine'"),
        ({"sampling": Sampling(top_p=2.0)}, "top_p 2"),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_is_queued(
    engine: Engine, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        engine.generate(dataclasses.replace(spell(engine), **wrong))  # type: ignore[arg-type]


def test_full_window_has_no_room_to_write(engine: Engine) -> None:
    full = Generation((BOS_ID,) * engine.max_context_tokens)
    assert join(write(engine, full)) == ("", (), StopReason.CONTEXT_FULL)


def test_loaded_folder_answers_like_the_parameters_saved(engine: Engine, tmp_path: Path) -> None:
    run = b'{"infill_modes": ["psm", "spm"]}'
    files = {"tokenizer.json": engine.tokenizer.to_json().encode(), "run.json": run}
    save_model(tmp_path / "model", engine.params, engine.config, dtype="float32", extra_files=files)
    loaded = Engine.load(tmp_path / "model")
    assert GeneratorCompleter(loaded).complete_all(REQUESTS) == GeneratorCompleter(engine).complete_all(REQUESTS)
    assert loaded.infill_modes == (InfillMode.SPM, InfillMode.PSM)
    assert engine.infill_modes == (InfillMode.PSM, InfillMode.SPM)
    assert loaded.model_name == "model"


def test_run_file_tells_the_modes_and_official_weights_have_none(tmp_path: Path) -> None:
    assert read_infill_modes(tmp_path) == (InfillMode.PSM, InfillMode.SPM)
    for told, modes in (('["psm", "spm1"]', (InfillMode.SPM1, InfillMode.PSM)), ("[]", (InfillMode.PSM,))):
        (tmp_path / "run.json").write_text(f'{{"infill_modes": {told}}}')
        assert read_infill_modes(tmp_path) == modes
    for damaged in ("", "[]", "{}", '{"infill_modes": ["mps"]}', '{"infill_modes": 3}'):
        (tmp_path / "run.json").write_text(damaged)
        with pytest.raises(InputError, match="does not tell which infill modes"):
            read_infill_modes(tmp_path)


def test_tokenizer_of_another_model_is_refused(engine: Engine, tokenizer: Tokenizer) -> None:
    small = dataclasses.replace(engine.config, vocab_size=300)
    with pytest.raises(InputError, match="ids, the model 300"):
        Engine(engine.params, small, tokenizer)


def test_answers_are_the_same_while_other_sizes_are_compiled(engine: Engine) -> None:
    fresh = Engine(engine.params, engine.config, engine.tokenizer, rows=8)
    assert fresh.warm() > 1
    # Batch work of so many rows asks for blocks, and writes token by token until they are there.
    asked = [
        spell(fresh, max_new_tokens=5, sampling=Sampling(0.9 * (seed % 2), seed=seed), priority=Priority.BATCH)
        for seed in range(6)
    ]
    told = [list(stream) for stream in [fresh.generate(generation) for generation in asked]]
    fresh.close()
    assert [join(deltas) for deltas in told] == [join(write(engine, generation)) for generation in asked]
