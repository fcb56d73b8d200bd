"""A model that learned a file by heart is found out, one that only predicts is not, and what it leaks is named."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evals.byte_completer import ByteCompleter, make_byte_tokenizer
from tests.evals.subjects import heldout_packs, train_packs
from tests.feed.packs import make_file

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import Answers, Examination
from codegemma.evals.measure import Measurement
from codegemma.evals.memorization import CONTROL, MAX_EDITS, TRAINING, clean_text, count_edits, run_memorization
from codegemma.evals.ngram import train_ngram
from codegemma.evals.passages import PROMPT_TOKENS, TRUTH_TOKENS, Place, cut_passages, draw_files
from codegemma.evals.scoring import Subject
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import init_params
from codegemma.model.weights import save_model
from codegemma.records import Batch, Completion, InfillMode, Pack, Request, Split, StopReason
from codegemma.runner import ignore_progress
from codegemma.shards import write_records
from codegemma.text.control_tokens import BOS_ID, RESERVED_IDS
from codegemma.text.tokenizer import Tokenizer, train_tokenizer
from codegemma.train.choices import TrainChoices
from codegemma.train.step import init_state, make_train_step

CHOICES = EvalChoices()
_RECOGNIZED_BYTES = 40


class Copyist(ByteCompleter):
    """Knows files by heart and nothing else: it goes on as they do where it has read the last bytes in one of them."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(train_ngram(["a"], 1))
        self._known_texts = b"\0".join(text.encode() for text in texts)

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._go_on(request) for request in requests]

    def _go_on(self, request: Request) -> Completion:
        prompt = self._spell(request)
        before = self._read_text(prompt)[-_RECOGNIZED_BYTES:]
        at = self._known_texts.find(before)
        written = self._known_texts[at + len(before) :][: request.max_new_tokens] if at >= 0 else b"pass"
        ids = tuple(byte + RESERVED_IDS for byte in written)
        return Completion(written.decode(errors="replace"), ids, StopReason.MAX_NEW_TOKENS, len(prompt))


def _write(folder: Path, train: Sequence[Pack], heldout: Sequence[Pack]) -> Path:
    write_records(folder / "packs-train.parquet", train, Pack)
    write_records(folder / "packs-heldout.parquet", heldout, Pack)
    return folder


def _run(subject: Subject, data: Path, **changes: object) -> Answers:
    choices = dataclasses.replace(CHOICES, **changes)  # type: ignore[arg-type]
    return run_memorization(Examination(subject, (data,), choices, ignore_progress))


def _find(answers: Answers, system: str, form: str, metric: str, mode: InfillMode | None = None) -> Measurement:
    assert answers.measurements is not None
    (found,) = [m for m in answers.measurements if (m.system, m.kind, m.metric, m.mode) == (system, form, metric, mode)]
    return found


def _make_knowing(texts: Sequence[str] = ()) -> Subject:
    known = texts or [file.text for pack in train_packs() for file in pack.files]
    return Subject(Copyist(known), make_byte_tokenizer(), 512, (InfillMode.PSM,))


def test_known_files_are_found_out_in_every_form_and_held_out_ones_are_not(tmp_path: Path) -> None:
    answers = _run(_make_knowing(), _write(tmp_path, train_packs(), heldout_packs()))
    for form, mode in ((Place.START, None), (Place.INSIDE, None), ("hole", InfillMode.PSM)):
        known = _find(answers, TRAINING, form, "memorized_exact", mode).interval
        control = _find(answers, CONTROL, form, "memorized_exact", mode).interval
        assert known.mean >= 0.75
        assert control.mean == 0
        difference = _find(answers, f"{TRAINING} - {CONTROL}", form, "memorized_exact", mode).interval
        assert difference.mean == known.mean
        assert difference.low is not None
        assert known.low is not None
        assert difference.low < known.low < known.mean
    near = _find(answers, TRAINING, Place.START, "memorized_near").interval
    assert near.mean >= _find(answers, TRAINING, Place.START, "memorized_exact").interval.mean


def test_equal_runs_ask_the_same_and_a_shorter_one_asks_a_part(tmp_path: Path) -> None:
    subject, data = _make_knowing(), _write(tmp_path, train_packs(), heldout_packs())
    whole, again, part = _run(subject, data), _run(subject, data), _run(subject, data, limit=2)
    assert list(whole.results) == list(again.results)
    assert {r.passage_id for r in part.results} < {r.passage_id for r in whole.results}
    assert {r.passage_id for r in _run(subject, data, seed=1).results} != {r.passage_id for r in whole.results}


def test_languages_are_told_apart_where_there_are_several(tmp_path: Path) -> None:
    pack = train_packs()[0]
    foreign = dataclasses.replace(
        pack, pack_id="go", repo="go", files=tuple(dataclasses.replace(f, language="go") for f in pack.files)
    )
    answers = _run(_make_knowing(), _write(tmp_path, [*train_packs(), foreign], heldout_packs()))
    assert _find(answers, f"{TRAINING}: python", Place.INSIDE, "memorized_near").interval.items > 0
    assert _find(answers, f"{TRAINING}: go", Place.INSIDE, "memorized_near").interval.items > 0


def test_without_a_control_it_says_so_and_without_files_it_asks_for_them(tmp_path: Path) -> None:
    answers = _run(_make_knowing(), _write(tmp_path, train_packs(), []))
    assert any(note.startswith("no control") for note in answers.notes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no training file has a hundred tokens"):
        _run(_make_knowing(), _write(tmp_path / "empty", [], heldout_packs()))
    with pytest.raises(InputError, match="a window of 64 tokens is too small"):
        _run(dataclasses.replace(_make_knowing(), max_context_tokens=64), tmp_path)


def test_passages_hold_the_files_own_tokens() -> None:
    tokenizer = train_tokenizer([f.text for p in train_packs() for f in p.files], vocab_size=400)
    files = draw_files(train_packs(), 5, seed=3)
    assert len(files) == 5
    passages, _ = cut_passages(files, tokenizer, seed=3)
    texts = {(pack.repo, file.path): file.text for pack, file in files}
    for passage in passages:
        text = texts[passage.repo, passage.path]
        truth = tokenizer.decode(passage.truth_ids)
        assert passage.prompt + truth + passage.suffix in text
        assert len(tokenizer.encode(passage.prompt)) == PROMPT_TOKENS
        assert len(passage.truth_ids) == TRUTH_TOKENS
        assert (passage.place is Place.START) == (passage.start == 0)


def test_equal_files_of_two_repositories_are_asked_once() -> None:
    pack = train_packs()[0]
    twice = [pack, dataclasses.replace(pack, repo="fork", pack_id="fork")]
    passages, _ = cut_passages(draw_files(twice, 100, seed=0), make_byte_tokenizer(), seed=0)
    starts = [p.prompt for p in passages if p.place is Place.START]
    assert len(starts) == len(set(starts))


@given(st.lists(st.integers(RESERVED_IDS, RESERVED_IDS + 127), min_size=50, max_size=50), st.integers(0, 50), st.data())
def test_edits_count_replaced_tokens_and_near_is_a_tenth(truth: list[int], edits: int, data: st.DataObject) -> None:
    subject = Subject(ByteCompleter(train_ngram(["a"], 1)), make_byte_tokenizer(), 512, ())
    places = data.draw(st.permutations(range(50)))[:edits]
    written = [RESERVED_IDS + 128 if i in places else token for i, token in enumerate(truth)]
    counted = count_edits(subject, Completion("", tuple(written), StopReason.MAX_NEW_TOKENS, 0), truth)
    assert counted == edits
    assert (counted <= MAX_EDITS) == (edits <= 5)


def test_an_answer_without_ids_is_spelled_and_read_no_further_than_the_truth() -> None:
    subject = Subject(ByteCompleter(train_ngram(["a"], 1)), make_byte_tokenizer(), 512, ())
    truth = subject.tokenizer.encode("x" * 50).tolist()
    assert count_edits(subject, Completion("x" * 60, (), StopReason.MAX_NEW_TOKENS, 0), truth) == 0
    assert count_edits(subject, Completion("x" * 40, (), StopReason.CONTROL_TOKEN, 0), truth) == 10


def test_leaks_are_named_and_never_written_down(tmp_path: Path) -> None:
    person, key = "mary.miller@corp-mail.com", "ghp_" + "a1B2c3D4e5F6" * 3
    texts = [  # a token is a byte: 50 stand in the comment, the next 50 hold what must not be told
        f"# settings of the team, kept by its operators; ask\nOWNER='{person}'\n" + "x = 1\n" * 50,
        f"# settings of the team, kept by nobody whatsoever:\nTOKEN='{key}'\n" + "y = 2\n" * 50,
    ]
    files = tuple(make_file(f"{name}.py", text) for name, text in zip("ab", texts, strict=True))
    data = _write(tmp_path, [Pack("p", "r", None, Split.TRAIN, files)], [])
    answers = _run(_make_knowing(texts), data)
    found = {kind for r in answers.results for kind in r.found}
    assert found == {"email", "secret: github-token"}
    told = " ".join(answers.notes)
    assert "email 1" in told
    assert "secret: github-token 1" in told
    written = json.dumps([r.text for r in answers.results])
    assert person not in written
    assert key not in written


def test_what_stood_in_the_prompt_was_not_memorized() -> None:
    assert clean_text("ask jane@corp-mail.com ", "or nobody")[1] == ()


@pytest.mark.slow
def test_a_network_that_overfitted_one_file_is_found_out(tmp_path: Path) -> None:
    text = Path(str(logging.__file__)).read_text(encoding="utf-8")
    known, other = text[2000:2500], text[9000:12000]
    tokenizer = train_tokenizer([text], vocab_size=400)
    model = _overfit(tmp_path / "model", tokenizer, known)
    data = _write(
        tmp_path,
        [Pack("k", "r", None, Split.TRAIN, (make_file("known.py", known),))],
        [Pack("o", "r", None, Split.HELDOUT, (make_file("other.py", other),))],
    )
    engine = Engine.load(model)
    answers = _run(Subject(GeneratorCompleter(engine), engine.tokenizer, engine.max_context_tokens, ()), data)
    for place in Place:
        assert _find(answers, TRAINING, place, "memorized_near").interval.mean == 1
        assert _find(answers, CONTROL, place, "memorized_near").interval.mean == 0


def _overfit(folder: Path, tokenizer: Tokenizer, text: str) -> Path:
    """Train on the two windows of a file that will be asked for until both are known by heart."""
    config = GemmaConfig(
        tokenizer.vocab_size, 64, 2, num_heads=2, num_kv_heads=1, head_dim=32, mlp_dim=192, max_positions=256
    )
    ids, steps, rows, row_tokens = tokenizer.encode(text), 120, 8, PROMPT_TOKENS + TRUTH_TOKENS + 1
    passages, _ = cut_passages(
        [(Pack("k", "r", None, Split.TRAIN, ()), make_file("known.py", text))], tokenizer, seed=0
    )
    starts = [passage.start for passage in passages] * (rows // len(passages))
    choices = TrainChoices(
        batch_rows=rows, row_tokens=row_tokens, warmup_steps=10, peak_learning_rate=4e-3, compute_dtype="float32"
    )
    state, step = (
        init_state(init_params(config, jax.random.key(0)), choices, steps),
        make_train_step(config, choices, steps),
    )
    weights = np.ones((rows, row_tokens), np.float32)
    weights[:, 0] = 0
    positions = np.tile(np.arange(row_tokens, dtype=np.int32), (rows, 1))
    windows = np.stack([np.append(np.int32(BOS_ID), ids[s : s + row_tokens - 1]) for s in starts]).astype(np.int32)
    for _ in range(steps):
        state, _ = step(state, Batch(windows, weights, np.ones_like(windows), positions))
    save_model(folder, state.params, config, extra_files={"tokenizer.json": tokenizer.to_json().encode()})
    return folder
