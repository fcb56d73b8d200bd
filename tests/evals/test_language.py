"""The nine tasks of language and mathematics: what our adapter answers is what lm-eval's own `hf` backend answers."""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evals.byte_completer import ByteCompleter
from tests.evals.language_rows import CROWS, write_bias_rows, write_rows
from tests.evals.subjects import make_subject

pytest.importorskip("lm_eval", reason="the extra language is not installed: make setup-dev")

from lm_eval.api.instance import Instance

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.errors import InputError
from codegemma.evals.bias_tasks import BIAS_TASKS
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import AbsentError, Examination
from codegemma.evals.language_model import HarnessModel
from codegemma.evals.language_suite import (
    BIAS_SUITES,
    LANGUAGE_SUITES,
    TASKS,
    ask_questions,
    choose_questions,
    load_tasks,
    quiet_harness,
    run_language,
)
from codegemma.evals.scoring import Subject
from codegemma.records import Completion, Request, Score
from codegemma.runner import ignore_progress
from codegemma.text.control_tokens import BOS_ID, STOP_IDS
from codegemma.wire import ServerError

BASE = Path(__file__).parents[2] / "src/codegemma/bases/tiny"
# Both compute in float32; a sum over a continuation of some twenty tokens.
TOLERANCE = 2e-3
SUITES = {suite.name: suite for suite in (*LANGUAGE_SUITES, *BIAS_SUITES)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped base with a longer window: few-shot prompts are long, and its positions are computed."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(BASE, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    return folder


@pytest.fixture(scope="module")
def ours(model: Path) -> Iterator[Subject]:
    engine = Engine.load(model, rows=4)
    yield Subject(GeneratorCompleter(engine), engine.tokenizer, engine.max_context_tokens, engine.infill_modes)
    engine.close()


@pytest.fixture(scope="module")
def theirs(model: Path) -> Any:
    """lm-eval's `hf` backend on the same weights, ending where our models end, with Gemma's one `<bos>`."""
    torch = pytest.importorskip("torch", reason="the reference needs torch: make setup-dev")
    transformers = pytest.importorskip("transformers", reason="the reference needs transformers: make setup-dev")
    from lm_eval.models.huggingface import HFLM
    from tokenizers.processors import TemplateProcessing

    torch.set_num_threads(1)
    network = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    network.generation_config.eos_token_id = sorted(STOP_IDS)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(model / "tokenizer.json"), bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", BOS_ID)]
    )
    return HFLM(pretrained=network, tokenizer=tokenizer, batch_size=1, device="cpu", prefix_token_id=BOS_ID)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bias_rows(write_rows(tmp_path_factory.mktemp("rows")))


def examine(subject: Subject, *data: Path, **changes: Any) -> Examination:
    return Examination(subject, data, EvalChoices(**changes), ignore_progress)


# MATH compares answers under an alarm of five seconds, which on a busy machine rings wherever it likes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", list(TASKS))
def test_every_item_is_answered_as_by_the_harness_s_own_backend(
    name: str, ours: Subject, theirs: Any, rows: Path
) -> None:
    exam = examine(ours, rows, limit=3)
    found = []
    for model in (HarnessModel(exam), theirs):
        with quiet_harness():
            loaded = load_tasks(TASKS[name], exam)
            found.append(ask_questions(model, loaded, choose_questions(loaded, 3)))
    assert sum(len(samples) for samples in found[0].values()) >= 3
    for leaf, samples in found[0].items():
        for one, other in zip(samples, found[1][leaf], strict=True):
            assert one["arguments"] == other["arguments"]
            for mine, their in zip(one["resps"], other["resps"], strict=True):
                if isinstance(mine[0], str):
                    assert mine[0] == their[0]
                else:
                    np.testing.assert_allclose(mine[0][0], their[0][0], atol=TOLERANCE)
                    assert mine[0][1] == their[0][1]
            if name in BIAS_TASKS:  # some of these figures are log-probabilities themselves
                for metric in one["metrics"]:
                    np.testing.assert_allclose(one[metric], other[metric], atol=TOLERANCE)
            elif name != "math":
                assert [one[metric] for metric in one["metrics"]] == [other[metric] for metric in other["metrics"]]


class Spy(ByteCompleter):
    """Keeps the prompts that it is asked to rate."""

    prompts: list[tuple[int, ...]]

    def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        self.prompts = [*getattr(self, "prompts", []), *(tuple(prompt) for prompt, _ in items)]
        return super().score(items)


def spy_on() -> tuple[Spy, Subject]:
    subject = make_subject()
    spy = Spy(subject.completer.model)  # type: ignore[attr-defined]
    return spy, dataclasses.replace(subject, completer=spy)


@pytest.mark.parametrize("name", ["boolq", "winogrande", "mmlu"])
def test_each_prompt_begins_with_exactly_one_bos_also_where_it_is_shortened(name: str, rows: Path) -> None:
    spy, subject = spy_on()
    for window in (512, 30):
        run_language(examine(dataclasses.replace(subject, max_context_tokens=window), rows), name)
    assert all(prompt[0] == BOS_ID and prompt.count(BOS_ID) == 1 for prompt in spy.prompts)
    assert min(map(len, spy.prompts)) < 30 < max(map(len, spy.prompts))


def test_whole_texts_are_rated_as_the_sum_over_their_windows(rows: Path) -> None:
    spy, subject = spy_on()
    model = HarnessModel(examine(dataclasses.replace(subject, max_context_tokens=12)))
    text = "import json\nprint(json.dumps({}))\n"
    (rated,) = model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)])
    ids = subject.tokenizer.encode(text).tolist()
    assert sum(len(prompt) for prompt in spy.prompts) >= len(spy.prompts)
    direct = subject.completer.score([((BOS_ID,), ids[:10])])
    first, *_ = sorted(spy.prompts, key=len)
    assert first == (BOS_ID,)
    assert rated < float(direct[0].logprobs.sum()) < 0


def test_results_say_shots_and_what_part_of_the_benchmark_was_there(rows: Path) -> None:
    answers = run_language(examine(make_subject(), rows, limit=4), "mmlu")
    assert answers.items == 4
    assert [(m.metric, m.interval.items) for m in answers.measurements or ()] == [("answered_right", 4)]
    described, missing, *_ = answers.notes
    assert "MMLU: 5 shots; by acc; task mmlu" in described
    assert "one <bos>" in described
    assert "6 questions in the files, where 14,042 were published" in missing
    results = list(answers.results)
    assert {len(result.logprobs) for result in results} == {4}
    again = run_language(examine(make_subject(), rows, limit=2), "mmlu")
    assert {r.item_id for r in again.results} < {r.item_id for r in results}


def test_several_filters_of_one_answer_stand_side_by_side(rows: Path) -> None:
    answers = run_language(examine(make_subject(), rows), "gsm8k")
    assert [m.system for m in answers.measurements or ()] == ["model", "model, exact_match, flexible-extract"]
    assert all(result.text is not None and not result.logprobs for result in answers.results)


def test_a_bias_is_told_over_all_questions_and_by_what_they_are_about(rows: Path) -> None:
    answers = run_language(examine(make_subject(), rows), "bbq")
    told = {(m.system, m.metric): m.interval for m in answers.measurements or ()}
    assert {name for name, _ in told} == {"model", "model, ambig", "model, disambig"}
    assert told["model, ambig", "answered_right"].items == 2
    results = [r for r in answers.results if r.group == "disambig"]
    assert told["model, disambig", "answered_right"].mean == sum(r.metrics["acc"] for r in results) / 2
    for name in ("amb_bias_score", "disamb_bias_score"):
        assert -1 <= told["model", name].mean <= 1 and told["model", name].low is None
    crows = run_language(examine(make_subject(), rows), "crows-pairs")
    systems = [(m.system, m.metric) for m in crows.measurements or ()]
    assert systems[:2] == [("model", "prefers_stereotype"), ("model, age", "prefers_stereotype")]
    assert "3 questions in the files, where 1,508 or 1,677 were published" in crows.notes[1]


def test_a_test_of_bias_is_one_in_the_hub_s_form_and_as_it_was_published(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "crows-pairs").mkdir()
    (tmp_path / "crows-pairs/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CROWS))
    found = [run_language(examine(make_subject(), place), "crows-pairs") for place in (rows, tmp_path)]
    assert list(found[0].results) == list(found[1].results)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("all_sentences.tsv", "sentid\tsentence\nnurse.txt\tThe nurse may go.\n"),
        ("mc_task.json", '[{"question": "q"}]'),
        ("Age.jsonl", '{"context": "c"}\n'),
        ("annotated_test.csv", ""),
    ],
)
def test_a_published_file_that_is_something_else_is_refused(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    suite = next(task.name for task in TASKS.values() if name in task.published)
    with pytest.raises(InputError, match=rf"{name} cannot be read"):
        run_language(examine(make_subject(), tmp_path), suite)


def test_a_question_that_is_refused_leaves_its_name_in_the_place_of_the_score(rows: Path) -> None:
    class Refusing(ByteCompleter):
        def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
            if "gains 2" in requests[0].prefix and "has 1 lines and gains 2. How many?\nAnswer:" in requests[0].prefix:
                raise ServerError("too long", 422)
            return super().complete_all(requests)

    subject = make_subject()
    refusing = dataclasses.replace(subject, completer=Refusing(subject.completer.model))  # type: ignore[attr-defined]
    assert run_language(examine(refusing, rows), "gsm8k").lacking == {"gsm8k:1": "too long"}


def test_absent_data_is_asked_for_by_name(tmp_path: Path, rows: Path) -> None:
    exam = examine(make_subject(), tmp_path)
    with pytest.raises(AbsentError, match=r"no boolq/validation\* in --data .*wanted files of aps/super_glue, boolq"):
        SUITES["boolq"].check(exam)
    (tmp_path / "gsm8k").mkdir()
    shutil.copy(rows / "gsm8k/test.jsonl", tmp_path / "gsm8k")
    with pytest.raises(AbsentError, match=r"no gsm8k/train\*"):
        SUITES["gsm8k"].check(exam)
    for suite in SUITES.values():
        suite.check(examine(make_subject(), rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"question": "q"}\n', "has no column 'passage'"), ("{", "cannot be read"), ("\n", "holds no row")],
)
def test_foreign_files_are_refused_with_what_was_wanted(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "boolq").mkdir()
    (tmp_path / "boolq/validation.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        run_language(examine(make_subject(), tmp_path), "boolq")


def test_server_that_cannot_rate_leaves_choices_not_run(rows: Path) -> None:
    class Remote(ByteCompleter):
        def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
            raise NotImplementedError("no server rates")

    subject = make_subject()
    remote = dataclasses.replace(subject, completer=Remote(subject.completer.model))  # type: ignore[attr-defined]
    with pytest.raises(AbsentError, match="no server rates"):
        run_language(examine(remote, rows), "piqa")
