"""llama.cpp behind the door of the engines: its server and the JAX engine write the same, and every promise holds."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from codegemma.engine import llama_leg
from codegemma.engine.llama_cpp import LlamaCpp
from codegemma.engine.llama_start import LlamaChoices, count_cache_bytes
from codegemma.errors import InputError
from codegemma.model.gguf_header import read_gguf_header
from codegemma.records import (
    CompletionDelta,
    Extent,
    Generation,
    Generator,
    Priority,
    Sampling,
    StopReason,
    StopRules,
    Usage,
)
from codegemma.text.control_tokens import BOS_ID, CONTROL_TOKENS, STOP_IDS
from codegemma.text.healing import split_for_healing

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: make setup-dev")

BASE = Path(__file__).parents[2] / "src/codegemma/bases/tiny"
SOURCE = Path(json.__file__).read_text(encoding="utf-8")
CUTS = [SOURCE.index(mark) + len(mark) for mark in ("def dump(", "if cls is ", "    return ", "raise TypeError(f'")]
# An answer that goes on: no control token may end it.
GOES_ON = Sampling(logit_bias=tuple((token_id, -1000.0) for token_id in sorted(STOP_IDS)))
# As exact as llama.cpp can be, and as quick to start as its checks need.
EXACT = LlamaChoices(slots=4, threads=1, is_exact=True, draft_tokens=0, batch_tokens=32)


@pytest.fixture(scope="module")
def llama(gguf) -> Iterator[LlamaCpp]:
    engine = LlamaCpp.load(gguf, EXACT)
    yield engine
    engine.close()


def spell(engine: LlamaCpp, text: str) -> tuple[int, ...]:
    return (BOS_ID, *engine.tokenizer.encode(text).tolist())


def read(engine: Generator, generation: Generation) -> list[CompletionDelta]:
    """Collect the first choice; every delta but the last is without a reason."""
    deltas = [delta for delta in engine.generate(generation) if delta.choice == 0]
    assert [d.stop_reason is None for d in deltas] == [True] * (len(deltas) - 1) + [False]
    return deltas


def usage_of(deltas: list[CompletionDelta]) -> Usage:
    usage = deltas[-1].usage
    assert usage is not None
    return usage


def ids_of(deltas: list[CompletionDelta]) -> list[int]:
    return [token_id for delta in deltas for token_id in delta.token_ids]


def text_of(deltas: list[CompletionDelta]) -> str:
    return "".join(delta.text for delta in deltas)


def prompt_of(engine: LlamaCpp, cut: int) -> tuple[int, ...]:
    return spell(engine, SOURCE[max(0, cut - 200) : cut])


def test_it_is_a_generator(llama):
    assert isinstance(llama, Generator)
    about = llama.describe()
    assert (about["engine"], about["weights"], about["context_tokens"]) == ("llama.cpp", "f32", 256)


@pytest.mark.parametrize("cut", CUTS)
def test_greedy_tokens_and_counts_are_those_of_its_server(llama, oracle, cut):
    ids = prompt_of(llama, cut)
    theirs = oracle.generate(list(ids), 24, cache_prompt=False)
    ours = read(llama, Generation(ids, 24))
    assert ids_of(ours) == [i for i in theirs["tokens"] if i not in STOP_IDS]
    usage = usage_of(ours)
    assert usage.prompt_tokens == theirs["tokens_evaluated"] == usage.cached_tokens + usage.evaluated_tokens


PENALTIES = {"repeat_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.75}


def penalising(last: int | None) -> Sampling:
    return replace(GOES_ON, repetition_penalty=1.2, presence_penalty=0.5, frequency_penalty=0.75, penalized_tokens=last)


@pytest.mark.parametrize("last", [None, 9])
def test_penalties_are_those_of_its_server(llama, oracle, last):
    ids = prompt_of(llama, CUTS[2])
    bias = [list(pair) for pair in GOES_ON.logit_bias]
    window = {"repeat_last_n": len(ids) + 40 if last is None else last}
    theirs = oracle.generate(list(ids), 24, cache_prompt=False, logit_bias=bias, **PENALTIES, **window)
    assert ids_of(read(llama, Generation(ids, 24, penalising(last)))) == theirs["tokens"]
    assert ids_of(read(llama, Generation(ids, 24, GOES_ON))) != theirs["tokens"]


def test_penalties_hold_over_a_sampled_answer_that_gives_way(llama):
    """Such an answer is written in several calls; nothing that was written before one is forgotten."""
    ids, once = prompt_of(llama, CUTS[2]), replace(GOES_ON, presence_penalty=2000.0, temperature=1.0, seed=3)
    written = ids_of(read(llama, Generation(ids, 30, once, priority=Priority.BATCH)))
    assert len(set(written)) == len(written) == 30
    assert not set(written) & set(ids)


@pytest.fixture(scope="module")
def jax_engine() -> Iterator[Generator]:
    from codegemma.engine.engine import Engine

    engine = Engine.load(BASE)
    yield engine
    engine.close()


@pytest.mark.parametrize("cut", CUTS)
def test_greedy_answers_are_those_of_the_jax_engine(llama, jax_engine, cut):
    prefix = SOURCE[max(0, cut - 200) : cut]
    kept, owed = split_for_healing(prefix)
    for generation in (
        Generation(prompt_of(llama, cut), 24),
        Generation(prompt_of(llama, cut), 24, GOES_ON, StopRules(extent=Extent.LINE, prefix=prefix)),
        Generation(prompt_of(llama, cut), 24, penalising(9)),
        Generation(spell(llama, kept), 12, healing=owed),
    ):
        ours, theirs = read(llama, generation), read(jax_engine, generation)
        assert (text_of(ours), ids_of(ours)) == (text_of(theirs), ids_of(theirs))
        assert ours[-1].stop_reason == theirs[-1].stop_reason


def test_logprobs_are_those_of_its_server_before_any_bias(llama, oracle):
    ids = prompt_of(llama, CUTS[0])
    theirs = oracle.rate_next(list(ids), llama.tokenizer.vocab_size)
    first = read(llama, Generation(ids, 1, GOES_ON, top_logprobs=3))[0].logprobs[0]
    assert first.logprob == pytest.approx(theirs[first.token_id], abs=1e-4)
    order = theirs.argsort()[::-1][:3]
    assert [token_id for token_id, _ in first.top] == order.tolist()


def test_a_prompt_is_read_once(llama):
    ids = prompt_of(llama, CUTS[1])
    read(llama, Generation(ids, 0, session="a"))
    usage = usage_of(read(llama, Generation((*ids, *llama.tokenizer.encode("None").tolist()), 2, session="a")))
    assert usage.cached_tokens >= len(ids) - 1
    assert usage.evaluated_tokens <= 3


def test_reading_alone_writes_nothing(llama):
    last = read(llama, Generation(prompt_of(llama, CUTS[2]), 0))[-1]
    assert (last.text, last.token_ids, last.stop_reason) == ("", (), StopReason.MAX_NEW_TOKENS)


def test_answers_end_by_our_rules(llama):
    ids = prompt_of(llama, CUTS[0])
    whole = text_of(read(llama, Generation(ids, 40, GOES_ON)))
    string = whole[9:12]
    cut = read(llama, Generation(ids, 40, GOES_ON, StopRules(strings=(string,))))
    assert (text_of(cut), cut[-1].stop_reason) == (whole[: whole.index(string)], StopReason.STRING)
    line = read(llama, Generation(ids, 40, GOES_ON, StopRules(extent=Extent.LINE, prefix="def dump(")))
    assert text_of(line) == whole[: whole.index("\n", 1)]
    assert line[-1].stop_reason is StopReason.LINE_END


def test_healing_begins_with_the_bytes_owed_and_tells_only_what_follows(llama):
    kept, owed = split_for_healing(SOURCE[max(0, CUTS[0] - 400) : SOURCE.index("def dump(") + 6])
    assert owed == b" du"
    deltas = read(llama, Generation(spell(llama, kept), 8, GOES_ON, healing=owed))
    written = llama.tokenizer.decode_bytes(ids_of(deltas))
    assert written.startswith(owed)
    assert text_of(deltas) == written.removeprefix(owed).decode(errors="replace")


@pytest.mark.parametrize("owed", [b" ", b" d", b"\n", b'"\\', "größe".encode(), "ß".encode()[1:]])
def test_a_grammar_heals_as_biases_do(llama, monkeypatch, owed):
    generation = Generation(prompt_of(llama, CUTS[0]), 6, GOES_ON, healing=owed)
    biased = read(llama, generation)
    monkeypatch.setattr(llama_leg, "MAX_BIASED_IDS", 2)  # a byte within a character has one id
    assert ids_of(read(llama, generation)) == ids_of(biased)


def test_a_grammar_takes_no_control_token_for_text(llama, monkeypatch):
    monkeypatch.setattr(llama_leg, "MAX_BIASED_IDS", 0)
    wanted = Sampling(logit_bias=tuple((token_id, 500.0) for token_id in sorted(STOP_IDS)))
    deltas = read(llama, Generation(prompt_of(llama, CUTS[0]), 1, wanted, healing=b"<"))
    assert llama.tokenizer.decode_bytes(ids_of(deltas)).startswith(b"<")


def test_choices_are_those_of_their_seeds_and_share_the_reading(llama):
    ids, sampling = prompt_of(llama, CUTS[3]), replace(GOES_ON, temperature=0.8, top_k=50, seed=7)
    deltas = list(llama.generate(Generation(ids, 12, sampling, choices=3)))
    for choice in range(3):
        alone = read(llama, Generation(ids, 12, replace(sampling, seed=7 + choice)))
        assert [i for d in deltas if d.choice == choice for i in d.token_ids] == ids_of(alone)
    greedy = list(llama.generate(Generation(ids, 5, GOES_ON, choices=2)))
    assert [d.text for d in greedy if d.choice == 0] == [d.text for d in greedy if d.choice == 1]


def test_seeds_draw_differently_and_the_same_again(llama):
    ids = prompt_of(llama, CUTS[3])
    answers = [
        ids_of(read(llama, Generation(ids, 16, replace(GOES_ON, temperature=1.5, seed=seed)))) for seed in (1, 2, 1)
    ]
    assert answers[0] == answers[2] != answers[1]


@pytest.mark.parametrize("token_id", sorted(CONTROL_TOKENS))
def test_no_control_token_is_told(llama, token_id):
    forced = Sampling(logit_bias=((token_id, 1000.0),))
    for rules in (StopRules(), StopRules(control_tokens_end=False)):
        deltas = read(llama, Generation(prompt_of(llama, CUTS[0]), 3, forced, rules))
        assert text_of(deltas) == ""
        ends = token_id in STOP_IDS and rules.control_tokens_end
        assert deltas[-1].stop_reason is (StopReason.CONTROL_TOKEN if ends else StopReason.MAX_NEW_TOKENS)
        assert ids_of(deltas) == ([] if ends else [token_id] * 3)


def test_bytes_of_characters_come_whole_with_their_ids(llama):
    pieces = llama.tokenizer.pieces
    ids = tuple(pieces.index(f"<0x{byte:02X}>") for byte in "日".encode())
    forced = Sampling(logit_bias=((ids[2], 1000.0),))
    deltas = read(llama, Generation((*spell(llama, "x = '"), *ids[:2]), 1, forced))
    assert ids_of(deltas) == [ids[2]]
    # A lone first byte is no character: it is told as a replacement, with its id.
    alone = read(llama, Generation(spell(llama, "x = '"), 2, Sampling(logit_bias=((ids[0], 1000.0),))))
    assert (text_of(alone), ids_of(alone)) == ("��", [ids[0]] * 2)


def test_the_window_ends_an_answer(llama):
    ids = (BOS_ID,) + (400,) * (llama.max_context_tokens - 5)
    deltas = read(llama, Generation(ids, 100, GOES_ON))
    assert (deltas[-1].stop_reason, usage_of(deltas).new_tokens) == (StopReason.CONTEXT_FULL, 4)


def test_a_prompt_that_fills_the_window_has_no_answer(llama):
    last = read(llama, Generation((BOS_ID,) * llama.max_context_tokens, 8))[-1]
    assert (last.text, last.stop_reason) == ("", StopReason.CONTEXT_FULL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_ids": ()}, "empty"),
        ({"prompt_ids": (2,) * 300}, "window is 256"),
        ({"prompt_ids": (2, 99999)}, "outside the vocabulary"),
        ({"max_new_tokens": -1}, "max_new_tokens -1"),
        ({"choices": 0}, "choices 0"),
        ({"sampling": Sampling(temperature=float("nan"))}, "temperature nan"),
        ({"sampling": Sampling(top_p=0.0)}, "top_p"),
        ({"sampling": Sampling(logit_bias=((99999, 1.0),))}, "logit_bias"),
        ({"new_budget_s": -1.0}, "new_budget_s"),
        ({"adapter": "other"}, "unknown adapter 'other'; loaded: none"),
    ],
)
def test_what_is_out_of_range_is_refused_before_it_is_queued(llama, change, message):
    with pytest.raises(InputError, match=message):
        llama.generate(replace(Generation((2, 400)), **change))


def wait_until_idle(engine: LlamaCpp) -> None:
    deadline = time.monotonic() + 60
    while engine._runs:
        time.sleep(0.002)
        assert time.monotonic() < deadline


def test_closing_a_stream_frees_its_slot_and_disturbs_nobody(llama):
    ids = prompt_of(llama, CUTS[0])
    expected = ids_of(read(llama, Generation(ids, 30, GOES_ON)))
    other = llama.generate(Generation(ids, 30, GOES_ON))
    stream = llama.generate(Generation(prompt_of(llama, CUTS[1]), 180, GOES_ON))
    next(stream)
    stream.close()
    stream.close()
    assert list(stream) == []
    assert [i for delta in other for i in delta.token_ids] == expected
    wait_until_idle(llama)


def test_a_stream_that_nobody_holds_is_cancelled(llama):
    llama.generate(Generation(prompt_of(llama, CUTS[0]), 200, GOES_ON))
    wait_until_idle(llama)


def test_a_queued_generation_can_be_closed(gguf):
    engine = LlamaCpp.load(gguf, replace(EXACT, slots=1))
    running = engine.generate(Generation(prompt_of(engine, CUTS[0]), 120, GOES_ON))
    queued = engine.generate(Generation(prompt_of(engine, CUTS[1]), 120, GOES_ON))
    queued.close()
    assert list(running)[-1].stop_reason in {StopReason.MAX_NEW_TOKENS, StopReason.CONTEXT_FULL}
    engine.close()


def test_budgets_end_reading_and_writing_and_tell_what_is_there(llama):
    ids = (BOS_ID, *(400 + number % 300 for number in range(240)))
    read_out = read(llama, Generation(ids, 10, GOES_ON, prompt_budget_s=0.0))
    assert (text_of(read_out), read_out[-1].stop_reason) == ("", StopReason.PROMPT_BUDGET)
    written = read(llama, Generation(ids[:40], 200, GOES_ON, new_budget_s=0.03))
    usage = usage_of(written)
    assert written[-1].stop_reason is StopReason.NEW_BUDGET
    assert 1 <= usage.new_tokens < 200


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_chat_is_held_while_somebody_types_and_says_the_same_as_if_it_were_not(llama, temperature):
    chat = Generation(
        prompt_of(llama, CUTS[2]), 90, replace(GOES_ON, temperature=temperature, seed=3), priority=Priority.CHAT
    )
    expected = ids_of(read(llama, chat))
    stream = llama.generate(chat)
    told = list(next(stream).token_ids)
    for cut in CUTS[:2]:
        read(llama, Generation(prompt_of(llama, cut), 12, GOES_ON))
    told += [i for delta in stream for i in delta.token_ids]
    assert told == expected


def test_nothing_urgent_waits_for_chat(gguf):
    engine = LlamaCpp.load(gguf, replace(EXACT, slots=2))
    chats = [
        engine.generate(Generation(prompt_of(engine, cut), 200, GOES_ON, priority=Priority.CHAT)) for cut in CUTS[:3]
    ]
    next(chats[0])
    read(engine, Generation(prompt_of(engine, CUTS[3]), 4, GOES_ON))
    assert engine._runs  # chat is not through yet
    for chat in chats:
        chat.close()
    engine.close()


def test_drafts_change_no_answer_and_are_counted(gguf):
    plain, drafting = LlamaCpp.load(gguf, EXACT), LlamaCpp.load(gguf, replace(EXACT, draft_tokens=8))
    ids = prompt_of(plain, CUTS[1])
    expected, ours = (read(engine, Generation(ids, 150, GOES_ON)) for engine in (plain, drafting))
    assert ids_of(ours) == ids_of(expected)
    usage = usage_of(ours)
    assert usage.drafted_tokens >= usage.accepted_tokens > 0
    assert usage_of(expected).drafted_tokens == 0
    plain.close()
    drafting.close()


def list_ports() -> set[int]:
    """List the TCP ports on which this process listens."""
    inodes = set()
    for file in Path("/proc/self/fd").iterdir():
        try:
            if found := re.match(r"socket:\[(\d+)\]", str(file.readlink())):
                inodes.add(found[1])
        except OSError:
            continue
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/self/net/{name}").read_text().split("\n")[1:-1]
    ]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes}


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="ports are read from Linux's /proc")
def test_no_port_answers_without_the_key(llama):
    del llama  # it is the one that listens, beside the oracle
    ports = list_ports()
    assert ports
    locked = 0
    for port in ports:
        with socket.socket() as probe:
            probe.settimeout(5)
            probe.connect(("127.0.0.1", port))
        if ask(port, "/completion", {"prompt": [2], "n_predict": 1}) == 200:
            continue  # the oracle's own, which has no key
        locked += 1
        for route in (
            "/completion", "/completions", "/v1/completions", "/v1/chat/completions", "/infill", "/tokenize", "/props",
            "/v1/embeddings", "/apply-template", "/detokenize", "/slots", "/metrics", "/models", "/v1/models",
            "/lora-adapters", "/slots/0?action=save",
        ):  # fmt: skip
            for body in ({"prompt": [2], "input_prefix": "", "input_suffix": "", "content": "", "messages": []}, None):
                assert ask(port, route, body) in {401, 404, 501}
    assert locked >= 1


def ask(port: int, route: str, body: Mapping[str, object] | None) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{route}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        return int(urllib.request.urlopen(request, timeout=20).status)  # noqa: S310
    except urllib.error.HTTPError as error:
        return error.code


def test_files_that_are_no_model_are_named(gguf, tmp_path):
    whole = gguf.read_bytes()
    for name, content, message in (
        ("cut", whole[:-100_000], "could not load"),
        ("head", whole[:3000], "no whole GGUF file"),
        ("empty", b"", "no whole GGUF file"),
        ("text", b"hello", "no whole GGUF file"),
        ("other", whole.replace(b"\x05\0\0\0\0\0\0\0gemma", b"\x05\0\0\0\0\0\0\0llama", 1), "holds a 'llama'"),
    ):
        file = tmp_path / f"{name}.gguf"
        file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            LlamaCpp.load(file, EXACT)
    with pytest.raises(InputError, match="no such model"):
        LlamaCpp.load(tmp_path / "none.gguf")


def test_more_memory_than_there_is_is_refused_before_it_is_taken(gguf, monkeypatch):
    header = read_gguf_header(gguf)
    assert count_cache_bytes(header, 256, EXACT) == 256 * 4 * 1 * (64 + 64) * 4
    monkeypatch.setattr("codegemma.engine.llama_start.find_free_memory", lambda: 10_000_000)
    with pytest.raises(InputError, match=r"needs 0\.3 GB of memory.*0\.0 GB are free: take int4"):
        LlamaCpp.load(gguf, EXACT)


def test_a_closed_engine_ends_its_streams_and_says_so(gguf):
    engine = LlamaCpp.load(gguf, EXACT)
    stream = engine.generate(Generation(prompt_of(engine, CUTS[0]), 200, GOES_ON))
    next(stream)
    engine.close()
    assert list(stream)[-1].stop_reason is StopReason.CANCELLED
    with pytest.raises(InputError, match="closed"):
        engine.generate(Generation((2,)))


def test_a_model_that_is_let_go_at_once_is_gone(gguf):
    for _ in range(3):
        LlamaCpp.load(gguf, EXACT).close()


def test_jax_is_not_loaded():
    code = "import sys, codegemma.engine.llama_cpp, codegemma.engine.completer; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
