"""Adapters go to PEFT and come from it, and one that does not belong is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.model.oracle import SHAPES, compute_oracle_logits
from tests.model.test_lora import draw_adapters

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.formats.peft import CONFIG_FILE, WEIGHTS_FILE, AdapterFile, read_adapter
from codegemma.model.formats.table import open_weights
from codegemma.model.gemma import Params, compute_logits, forward, init_params
from codegemma.model.lineage import LINEAGE_FILE, NOTICE_FILE, Lineage
from codegemma.model.lora import attach
from codegemma.model.weights import describe_model, list_model_files, load_model, save_model
from codegemma.model.write import convert, write_adapter_model
from codegemma.shards import hash_files

# What peft still calls in transformers.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CONFIG = SHAPES["mqa"]
TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
IDS = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 10)).astype(np.int32)


def read_ids(params: Params, config: GemmaConfig = CONFIG) -> np.ndarray:
    positions = jnp.broadcast_to(jnp.arange(IDS.shape[1]), IDS.shape)
    hidden = forward(params, config, jnp.asarray(IDS), jnp.ones_like(IDS), positions, Execution(unroll=False))
    return np.asarray(compute_logits(params, hidden))


def write_both(folder: Path, targets: tuple[str, ...] = TARGETS, **about: Any) -> tuple[Path, Path]:
    """Write a base and an adapter of it."""
    base, place = folder / "base", folder / "adapter"
    save_model(base, init_params(CONFIG, jax.random.key(0)), CONFIG, dtype="float32")
    drawn = draw_adapters(CONFIG, targets)
    matrices = {t: (np.asarray(pair["a"]), np.asarray(pair["b"])) for t, pair in drawn.items()}
    adapter = AdapterFile(rank=3, alpha=1.5, scale=0.5, dropout=0.0, matrices=matrices, base=str(base))
    lineage = Lineage("gemma").extend("train", adapter_of=hash_files(list_model_files(base)), **about)
    write_adapter_model(place, CONFIG, adapter, lineage, {})
    return base, place


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_both(tmp_path_factory.mktemp("written"))


def test_transformers_with_peft_compute_our_logits_from_what_we_write(written: tuple[Path, Path]) -> None:
    base, place = written
    peft = pytest.importorskip("peft", reason="the reference of adapters needs peft: make setup-dev")
    transformers = pytest.importorskip("transformers")
    model = transformers.GemmaForCausalLM.from_pretrained(base, dtype="float32", attn_implementation="eager")
    theirs = compute_oracle_logits(peft.PeftModel.from_pretrained(model, place).eval(), IDS)
    plain, ours = load_model(base)[0], attach(load_model(base)[0], draw_adapters(CONFIG), 0.5)
    assert np.abs(theirs - read_ids(plain)).max() > 0.01
    np.testing.assert_allclose(read_ids(ours), theirs, atol=1e-4, rtol=0)
    merged, config = load_model(place)
    assert config == CONFIG == describe_model(place)
    np.testing.assert_allclose(read_ids(merged), theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", [{}, {"use_rslora": True, "target_modules": ["q_proj", "down_proj"]}])
def test_what_peft_writes_is_read_and_merged_as_peft_computes_it(options: dict[str, Any], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="the reference of adapters needs peft: make setup-dev")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    base = tmp_path / "base"
    save_model(base, init_params(CONFIG, jax.random.key(0)), CONFIG, dtype="float32")
    plain = transformers.GemmaForCausalLM.from_pretrained(base, dtype="float32", attn_implementation="eager")
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    chosen = {"r": 4, "lora_alpha": 6, "target_modules": modules, "task_type": "CAUSAL_LM"} | options
    model = peft.get_peft_model(plain, peft.LoraConfig(**chosen))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    model.save_pretrained(tmp_path / "theirs")
    params, _ = load_model(tmp_path / "theirs")
    np.testing.assert_allclose(read_ids(params), compute_oracle_logits(model.eval(), IDS), atol=1e-4, rtol=0)
    assert read_adapter(tmp_path / "theirs", CONFIG).base_hash is None


def test_fresh_adapter_merges_into_the_very_base(tmp_path: Path) -> None:
    base, place = write_both(tmp_path)
    tensors = load_file(place / WEIGHTS_FILE)
    save_file({n: t * (0 if "lora_B" in n else 1) for n, t in tensors.items()}, place / WEIGHTS_FILE)
    for name, value in load_model(place)[0].items():
        np.testing.assert_array_equal(value, load_model(base)[0][name])


def test_conversion_merges_and_hands_lineage_and_terms_on(written: tuple[Path, Path], tmp_path: Path) -> None:
    base, place = written
    convert(place, tmp_path / "merged", "hf")
    convert(base, tmp_path / "named", "hf", adapter=place)
    wanted, _ = load_model(place)
    for folder in ("merged", "named"):
        for name, value in load_model(tmp_path / folder)[0].items():
            np.testing.assert_array_equal(value, wanted[name])
        steps = json.loads((tmp_path / folder / LINEAGE_FILE).read_text())["steps"]
        assert [step["act"] for step in steps] == ["train", "merge"]
        assert (tmp_path / folder / NOTICE_FILE).read_bytes() == (place / NOTICE_FILE).read_bytes()


def test_merged_without_a_type_has_that_of_the_base(written: tuple[Path, Path], tmp_path: Path) -> None:
    base, place = written
    convert(base, tmp_path / "half", "hf", "bf16")
    (tmp_path / "adapter").mkdir()
    for name in (CONFIG_FILE, WEIGHTS_FILE):  # without its lineage, as others write it
        (tmp_path / "adapter" / name).write_bytes((place / name).read_bytes())
    convert(tmp_path / "half", tmp_path / "merged", "hf", adapter=tmp_path / "adapter")
    assert str(open_weights(tmp_path / "merged").dtype) == "bfloat16"
    steps = json.loads((tmp_path / "merged" / LINEAGE_FILE).read_text())["steps"]
    assert [step["act"] for step in steps[-2:]] == ["adapt", "merge"]


Change = Callable[[Path, Path], None]


def change_about(**changes: Any) -> Change:
    def change(base: Path, place: Path) -> None:
        about = json.loads((place / CONFIG_FILE).read_text()) | changes
        (place / CONFIG_FILE).write_text(json.dumps(about))

    return change


def cut(name: str) -> Change:
    def change(base: Path, place: Path) -> None:
        (place / name).write_bytes((place / name).read_bytes()[:9])

    return change


def change_base(base: Path, place: Path) -> None:
    """Put another model of the same shape in the place of the base."""
    save_model(base, init_params(CONFIG, jax.random.key(9)), CONFIG, dtype="float32")


def change_shape(base: Path, place: Path) -> None:
    """Let the base have another layer: no lineage vouches for the adapter."""
    (place / LINEAGE_FILE).unlink()
    fewer = SHAPES["grouped"]
    save_model(base, init_params(fewer, jax.random.key(0)), fewer, dtype="float32")


def remove_tensor(base: Path, place: Path) -> None:
    tensors = load_file(place / WEIGHTS_FILE)
    del tensors[next(name for name in tensors if "layers.1.mlp.up_proj.lora_B" in name)]
    save_file(tensors, place / WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_base, r"on a base whose files hash to \w+; those of .*base hash to \w+: it is another model"),
        (change_shape, r"lora_B.weight is \[128, 3\]; wanted \[64, 3\]: the adapter belongs on another base"),
        (remove_tensor, r"layers\.1\.mlp\.up_proj\.lora_B\.weight is missing; wanted \[96, 3\]"),
        (change_about(r=4), r"lora_A\.weight is \[3, 64\]; wanted \[4, 64\]"),
        (change_about(r="many"), r"has r 'many'; wanted a number"),
        (change_about(peft_type="IA3"), r"has peft_type 'IA3'; wanted 'LORA'"),
        (change_about(use_dora=True), r"has use_dora True.*merge_and_unload"),
        (change_about(rank_pattern={"q_proj": 8}), r"has rank_pattern \{'q_proj': 8\}"),
        (change_about(target_modules=["q_proj", "c_attn"]), r"adapts c_attn; known are q_proj, k_proj"),
        (change_about(target_modules=["q_proj"]), r"holds \d+ tensors more than 3 layers and q have"),
        (change_about(base_model_name_or_path="no/where/base"), r"is an adapter of no/where/base, which is not here"),
        (change_about(base_model_name_or_path=None), r"is an adapter of a base that it does not name"),
        (cut(CONFIG_FILE), r"cannot be read as JSON"),
        (cut(WEIGHTS_FILE), r"is cut off or not safetensors"),
    ],
)
def test_adapter_that_does_not_belong_is_refused_by_name(change: Change, message: str, tmp_path: Path) -> None:
    base, place = write_both(tmp_path)
    change(base, place)
    with pytest.raises(InputError, match=message):
        open_weights(place)
