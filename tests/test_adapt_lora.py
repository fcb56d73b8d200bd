"""From a base in Hugging Face's layout to a served model by adapters, and what stops a job before it begins."""

import dataclasses
import email
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import pytest
from click.testing import CliRunner

from codegemma.adapt import AdaptJob, adapt, choose_recipe_name
from codegemma.cli.adapt import command as adapt_command
from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.forgetting import GENERAL, REPOSITORY, ForgettingError
from codegemma.model.config import GemmaConfig, codegemma_2b, codegemma_7b
from codegemma.model.gemma import init_params
from codegemma.model.lineage import LINEAGE_FILE
from codegemma.model.weights import save_model
from codegemma.recipe import override
from codegemma.recipes import Recipe, load_recipe
from codegemma.records import InfillMode, Request, StopReason
from codegemma.text.tokenizer import train_tokenizer

REPO = Path(str(email.__file__)).parent
SMALL = GemmaConfig(600, 32, 2, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64, max_positions=512)
EVALS = EvalChoices(
    max_holes_per_kind=4, generated_holes=2, max_baseline_bytes=0, general_chars=3_000, max_general_loss=None
)
SHORT = [
    "train.steps=3", "train.batch_rows=2", "train.row_tokens=192", "train.log_every_steps=1", "train.warmup_steps=1",
    "feed.packing_bins=4", "corpus.heldout_share=0.2", "pack.budget_tokens=512", "train.peak_learning_rate=0.01",
]  # fmt: skip


def make_recipe(settings: Sequence[str] = (), evals: EvalChoices = EVALS) -> Recipe:
    return dataclasses.replace(override(load_recipe("adapt_2b_lora"), [*SHORT, *settings]), evals=evals)


def write_base(folder: Path, config: GemmaConfig) -> Path:
    """Write a random model in Hugging Face's layout, with a tokenizer of its own."""
    tokenizer = train_tokenizer((path.read_text() for path in REPO.glob("*.py")), config.vocab_size)
    files = {"tokenizer.json": tokenizer.to_json().encode()}
    save_model(folder, init_params(config, jax.random.key(0)), config, extra_files=files)
    return folder


def make_job(base: Path, out: Path, recipe: Recipe | None = None) -> AdaptJob:
    return AdaptJob((REPO,), out, recipe or make_recipe(), base=base, other=None, minutes=None)


def serve(model: Path) -> None:
    """Load the model and write at a cursor, in the mode that it learned."""
    engine = Engine.load(model)
    assert engine.infill_modes == (InfillMode.PSM,)
    request = Request("def parse(text):\n    return ", "\n", path="a.py", mode=InfillMode.PSM, max_new_tokens=4)
    completion = GeneratorCompleter(engine).complete_all([request])[0]
    # A model of random weights may well end at once.
    assert completion.token_ids or completion.stop_reason is StopReason.CONTROL_TOKEN


def test_a_base_is_adapted_by_adapters_measured_and_served(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", SMALL)
    result = adapt(make_job(base, tmp_path / "out"))
    model = tmp_path / "out/model"
    assert {file.name for file in model.iterdir()} >= {
        "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "run.json", LINEAGE_FILE,
    }  # fmt: skip
    assert not (model / "model.safetensors").exists()
    losses = {change.name: change for change in result.losses}
    assert losses.keys() == {REPOSITORY, GENERAL}
    assert losses[GENERAL].source.startswith("scipy/stats 1.")
    for change in losses.values():
        assert change.before is not None
        assert change.change is not None
        assert change.change.mean == pytest.approx(change.after.mean - change.before.mean)
    assert {r.system for r in result.results} == {"adapted", "base"}
    serve(model)
    _lose_general_ability(make_job(base, tmp_path / "out"))


def _lose_general_ability(job: AdaptJob) -> None:
    """Let the base have been twice as good at general code: the same job then fails and keeps its model aside."""
    kept = job.out / "evaluation/base-general-code/losses.json"
    about = json.loads(kept.read_text())
    about["losses"] = [loss | {"bits": loss["bits"] / 2} for loss in about["losses"]]
    kept.write_text(json.dumps(about))
    strict = dataclasses.replace(job, recipe=override(job.recipe, ["evals.max_general_loss=0.05"]))
    with pytest.raises(ForgettingError, match=r"the model forgot: general code \(scipy/stats.*max_general_loss=none"):
        adapt(strict)
    assert not job.model.exists()
    aside = job.out / "rounds/1/model"
    assert (aside / "adapter_model.safetensors").is_file()
    assert json.loads((job.out / "adapt.json").read_text())["model"] == str(aside)
    assert not adapt(job).has_trained
    assert (job.model / "adapter_config.json").is_file()


@pytest.mark.slow
def test_a_base_as_wide_as_2b_goes_from_the_command_line_to_a_served_model(tmp_path: Path) -> None:
    # Its window would make every hole of the measurement a prompt of 8,192 tokens.
    config = dataclasses.replace(codegemma_2b(), num_layers=1, vocab_size=2000, max_positions=256)
    base = write_base(tmp_path / "base", config)
    short = [*SHORT, "train.steps=2", "train.peak_learning_rate=1e-4", "evals.max_holes_per_kind=2",
             "evals.generated_holes=2", "evals.max_baseline_bytes=0", "evals.general_chars=3000"]  # fmt: skip
    settings = [part for setting in short for part in ("--set", setting)]
    arguments = [str(REPO), "--out", str(tmp_path / "out"), "--base", str(base), "--control", "none", *settings]
    done = CliRunner().invoke(adapt_command, arguments, catch_exceptions=False)
    assert "general code" in done.output
    assert "adapter_config.json" in {file.name for file in (tmp_path / "out/model").iterdir()}
    serve(tmp_path / "out/model")


def test_the_recipe_follows_the_width_of_the_base(tmp_path: Path) -> None:
    for config, wanted in ((codegemma_2b(), "adapt_2b_lora"), (codegemma_7b(), "adapt_2b_lora"), (SMALL, "tiny")):
        (tmp_path / "config.json").write_text(json.dumps(config.to_hf_dict()))
        assert choose_recipe_name(tmp_path) == wanted
    assert choose_recipe_name(None) == "tiny"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "gemma2"}, r"model_type 'gemma2'; wanted 'gemma'"),
        ({"model_type": "llama"}, r"model_type 'llama'; wanted 'gemma'"),
        ({"hidden_size": 64}, r"asks for \[\d+, 64\]"),
        (None, r"lacks the control tokens <\|fim_prefix\|> as 67"),
        ({"max_position_embeddings": 128}, r"too long for the base's window of 128"),
    ],
)
def test_a_base_that_cannot_be_trained_on_stops_the_job_before_anything_is_built(
    changed: dict[str, object] | None, message: str, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base", SMALL)
    file = base / ("tokenizer.json" if changed is None else "config.json")
    text = file.read_text()
    if changed is None:
        file.write_text(text.replace("<|fim_prefix|>", "<other>"))
    else:
        file.write_text(json.dumps(json.loads(text) | changed))
    with pytest.raises(InputError, match=message):
        adapt(make_job(base, tmp_path / "out"))
    assert not (tmp_path / "out/data").exists()
