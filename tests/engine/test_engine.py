import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.compute import write_tokens
from codegemma.engine.engine import Engine
from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params, compute_logits, forward
from codegemma.model.infill_modes import read_infill_modes
from codegemma.model.weights import save_model
from codegemma.records import Completer, Completion, Generator, InfillMode, Request, Sampling, StopReason
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
    prompt = engine.build_prompt(request)
    ids = list(prompt)
    while len(ids) - len(prompt) < request.max_new_tokens and len(ids) < engine.max_context_tokens:
        chosen = int(compute_full_logits(engine, ids)[-1].argmax())
        if chosen in STOP_IDS:
            break
        ids.append(chosen)
    return ids[len(prompt) :]


def join(engine: Engine, request: Request) -> tuple[str, tuple[int, ...], StopReason | None]:
    deltas = list(engine.complete(request))
    assert all(d.stop_reason is None for d in deltas[:-1])
    return "".join(d.text for d in deltas), sum((d.token_ids for d in deltas), ()), deltas[-1].stop_reason


def test_engine_is_a_completer_itself_and_through_its_token_level_door(engine: Engine) -> None:
    assert isinstance(engine, Completer)
    assert isinstance(engine, Generator)
    assert GeneratorCompleter(engine).complete_all(REQUESTS) == engine.complete_all(REQUESTS)


def test_streamed_batched_and_uncached_greedy_are_the_same_tokens(engine: Engine) -> None:
    batched = engine.complete_all(REQUESTS)
    for request, completion in zip(REQUESTS, batched, strict=True):
        assert list(completion.token_ids) == generate_uncached(engine, request)
        assert join(engine, request) == (completion.text, completion.token_ids, completion.stop_reason)
        assert completion.prompt_tokens == len(engine.build_prompt(request))
    assert len({c.token_ids for c in batched}) == len(batched)


def test_sampled_answer_does_not_depend_on_its_neighbours(engine: Engine) -> None:
    sampled = [
        dataclasses.replace(r, sampling=Sampling(temperature=0.9, top_p=0.95, seed=n)) for n, r in enumerate(REQUESTS)
    ]
    together = engine.complete_all([*sampled, REQUESTS[0]])
    backwards = engine.complete_all(sampled[::-1])[::-1]
    alone = [engine.complete_all([request])[0] for request in sampled]
    assert together[:-1] == backwards == alone
    assert together[-1] == engine.complete_all([REQUESTS[0]])[0]
    other_seeds = engine.complete_all(
        [dataclasses.replace(r, sampling=dataclasses.replace(r.sampling, seed=100 + r.sampling.seed)) for r in sampled]
    )
    assert [c.token_ids for c in other_seeds] != [c.token_ids for c in alone]


def point_at(engine: Engine, token_id: int) -> Engine:
    """A model that always writes `token_id`: its embedding points where every hidden state points."""
    params = {name: jnp.zeros_like(value) for name, value in engine.params.items()}
    params["emb"] = params["emb"].at[:, 0].set(1.0).at[token_id, 0].set(2.0)
    return Engine(params, engine.config, engine.tokenizer)


@pytest.mark.parametrize("stop_id", sorted(STOP_IDS))
def test_control_token_ends_the_answer_and_is_not_part_of_it(engine: Engine, stop_id: int) -> None:
    always = point_at(engine, stop_id)
    assert always.complete_all([REQUESTS[0]]) == [
        Completion("", (), StopReason.CONTROL_TOKEN, len(engine.build_prompt(REQUESTS[0])))
    ]
    assert join(always, REQUESTS[0]) == ("", (), StopReason.CONTROL_TOKEN)


def test_answer_ends_at_the_asked_number_of_tokens_or_where_the_window_ends(engine: Engine) -> None:
    always = point_at(engine, int(engine.tokenizer.encode("a")[0]))
    assert join(always, dataclasses.replace(REQUESTS[0], max_new_tokens=5))[1:] == (
        tuple(engine.tokenizer.encode("a").tolist() * 5),
        StopReason.MAX_NEW_TOKENS,
    )
    long = Request("def add(first, second):\n" * 50, "x = 1\n" * 50, max_new_tokens=500)
    (completion,) = always.complete_all([long])
    assert completion.stop_reason is StopReason.CONTEXT_FULL
    assert completion.prompt_tokens + len(completion.token_ids) == engine.max_context_tokens
    assert join(always, long) == (completion.text, completion.token_ids, completion.stop_reason)


def test_character_of_several_byte_tokens_is_streamed_whole(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a𝒳é\u2028b"
    wanted = engine.tokenizer.encode(text).tolist()
    assert len(wanted) > len(text)
    # The network is told what to write; everything after it is the engine's own.
    written = iter([[i] for i in wanted[1:]])

    def write(*arguments: object) -> tuple[jax.Array, object]:
        return jnp.asarray([next(written)], jnp.int32), arguments[3]

    monkeypatch.setattr("codegemma.engine.engine.write_tokens", write)
    always = point_at(engine, wanted[0])
    deltas = list(always.complete(Request("", "", max_new_tokens=len(wanted))))
    assert [d.text for d in deltas] == list(text)
    assert sum((d.token_ids for d in deltas), ()) == tuple(wanted)


def test_cut_off_character_ends_as_a_replacement_mark(engine: Engine) -> None:
    first_byte = int(engine.tokenizer.encode("𝒳")[0])
    text, ids, stop_reason = join(point_at(engine, first_byte), Request("", "", max_new_tokens=2))
    assert (text, ids, stop_reason) == ("\ufffd\ufffd", (first_byte,) * 2, StopReason.MAX_NEW_TOKENS)


def test_closing_the_stream_stops_computing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def count(*arguments: object) -> object:
        calls.append(1)
        return write_tokens(*arguments)

    monkeypatch.setattr("codegemma.engine.engine.write_tokens", count)
    stream = point_at(engine, int(engine.tokenizer.encode("a")[0])).complete(Request("", "", max_new_tokens=60))
    next(stream)
    next(stream)
    stream.close()
    assert len(calls) == 1
    assert list(stream) == []


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
    completion = engine.complete_all([REQUESTS[2]])[0]
    prompt = engine.build_prompt(REQUESTS[2])
    right, wrong = engine.score([(prompt, completion.token_ids), (prompt, [*completion.token_ids[:-1], 200])])
    assert tuple(right.argmax_ids) == tuple(wrong.argmax_ids) == completion.token_ids


def test_nothing_to_score_is_a_score_of_nothing(engine: Engine) -> None:
    assert engine.score([]) == []
    assert engine.complete_all([]) == []
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


def test_request_for_no_tokens_is_refused_before_streaming(engine: Engine) -> None:
    with pytest.raises(InputError, match="max_new_tokens 0"):
        engine.complete(Request("", "", max_new_tokens=0))


def test_loaded_folder_answers_like_the_parameters_saved(engine: Engine, tmp_path: Path) -> None:
    run = b'{"infill_modes": ["psm", "spm"]}'
    files = {"tokenizer.json": engine.tokenizer.to_json().encode(), "run.json": run}
    save_model(tmp_path / "model", engine.params, engine.config, dtype="float32", extra_files=files)
    loaded = Engine.load(tmp_path / "model")
    assert loaded.complete_all(REQUESTS) == engine.complete_all(REQUESTS)
    assert loaded.infill_modes == (InfillMode.SPM, InfillMode.PSM)
    assert engine.infill_modes == (InfillMode.PSM, InfillMode.SPM)


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


def test_few_shapes_are_compiled_however_many_requests_come(engine: Engine) -> None:
    requests = [Request("a" * n, "b" * (n // 3), max_new_tokens=8) for n in range(60)]
    engine.complete_all(requests)
    before = write_tokens._cache_size()  # type: ignore[attr-defined]
    engine.complete_all(requests[1:])
    assert write_tokens._cache_size() == before <= 16  # type: ignore[attr-defined]
