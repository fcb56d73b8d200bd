"""llama.cpp on our GGUF files: the same scores, the same ids, the same ends, and its infill prompts."""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tests.model.llama_cpp import LlamaCpp, serve
from tests.model.test_gguf import draw_tensors, read_whole, small_tokenizer
from tests.text.test_sentence_piece import train_model
from tests.text.test_tokenizer import FRAGMENTS, gemma_tokenizer

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.errors import InputError
from codegemma.model import feed_forward
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params, compute_logits, forward
from codegemma.model.gguf import list_tensors, write_gguf
from codegemma.model.weights import describe_model
from codegemma.records import InfillMode, Request
from codegemma.text.chat_format import Turn, format_chat_prompt
from codegemma.text.control_tokens import BOS_ID, CONTROL_TOKENS, STOP_IDS
from codegemma.text.tokenizer import Tokenizer, train_tokenizer

BASE = Path(__file__).parents[2] / "src/codegemma/bases/tiny"
SHAPES = {
    "mqa": GemmaConfig(512, 64, 3, num_heads=4, num_kv_heads=1, head_dim=32, mlp_dim=96, max_positions=128),
    "mha_wide": GemmaConfig(512, 64, 2, num_heads=4, num_kv_heads=4, head_dim=32, mlp_dim=96, max_positions=128),
    "grouped": GemmaConfig(512, 64, 2, num_heads=4, num_kv_heads=2, head_dim=16, mlp_dim=96, max_positions=128),
}
# How far llama.cpp may be from us on the weights that the file holds, in nats. It multiplies the activations in the
# type of the weights (eight bits for q4_0).
TOLERANCES = {"f32": 3e-5, "f16": 5e-3, "bf16": 3e-2, "q8_0": 0.12, "q4_0": 0.12}

# What text may hold: control tokens as text, long runs, line ends, NUL, characters outside the vocabulary. Not `▁`: it
# is a space to llama.cpp.
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from([f for f in FRAGMENTS if "▁" not in f]),
        st.sampled_from(
            ["\n" * 40, " " * 50, "\t" * 40, "=" * 90, "<table>", "</s>", "[@BOS@]", "<unused5>", "a" * 30]
        ),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=9),
    ),
    max_size=24,
).map("".join)


def stack(tensors: dict[str, np.ndarray], config: GemmaConfig) -> Params:
    """Lay Hugging Face's tensors out as ours."""
    layers = range(config.num_layers)

    def gather(name: str, *shape: int) -> jax.Array:
        return jnp.stack([tensors[f"model.layers.{n}.{name}.weight"].T.reshape(shape) for n in layers])

    d, f, a = config.embed_dim, config.mlp_dim, config.head_dim
    kv_shape = (d, config.num_kv_heads, a)
    return {
        "emb": jnp.asarray(tensors["model.embed_tokens.weight"]),
        "final_norm": jnp.asarray(tensors["model.norm.weight"]),
        "attn_norm": gather("input_layernorm", d),
        "q": gather("self_attn.q_proj", d, config.num_heads, a),
        "kv": jnp.stack([gather(f"self_attn.{name}_proj", *kv_shape) for name in "kv"], axis=1),
        "o": gather("self_attn.o_proj", config.num_heads, a, d),
        "ffw_norm": gather("post_attention_layernorm", d),
        "gate_up": jnp.stack([gather(f"mlp.{name}_proj", d, f) for name in ("gate", "up")], axis=1),
        "down": gather("mlp.down_proj", f, d),
    }


def read_stored(path: Path, config: GemmaConfig) -> dict[str, np.ndarray]:
    """Read the numbers that the file holds, quantised or not, under their Hugging Face names."""
    stored = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    values = {
        name: dequantize(stored[theirs].data, stored[theirs].tensor_type) for name, theirs, _ in list_tensors(config)
    }
    return {name: value - 1 if value.ndim == 1 else value for name, value in values.items()}


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [*((shape, "f32") for shape in SHAPES), *(("mqa", dtype) for dtype in TOLERANCES if dtype != "f32")],
)
def test_llama_cpp_scores_every_next_token_as_we_do(shape, dtype, tmp_path, monkeypatch):
    config, tokenizer = SHAPES[shape], small_tokenizer()
    write_gguf(tmp_path / "a.gguf", config, tokenizer, read_whole(draw_tensors(config)), dtype)
    # llama.cpp looks GELU up in a table of float16.
    plain = feed_forward._gelu
    half = functools.partial(jnp.asarray, dtype=jnp.float16)
    monkeypatch.setattr(feed_forward, "_gelu", lambda x: half(plain(half(x).astype("float32"))).astype("float32"))
    params = stack(read_stored(tmp_path / "a.gguf", config), config)
    ids = [BOS_ID, *tokenizer.encode("def load(path):\n    return [x for x in range(10)]  # and so on\n").tolist()]
    row = jnp.asarray([ids])
    hidden = forward(params, config, row, jnp.ones_like(row), jnp.arange(len(ids))[None])
    ours = jax.nn.log_softmax(compute_logits(params, hidden[0]))
    with serve(tmp_path / "a.gguf") as llama:
        for length in (1, 7, len(ids)):
            theirs = llama.rate_next(ids[:length], config.vocab_size)
            np.testing.assert_allclose(theirs, ours[length - 1], atol=TOLERANCES[dtype], rtol=0)


def load_tokenizer(name: str, folder: Path) -> Tokenizer:
    if name == "tokenizer.model":
        (folder / name).write_bytes(train_model())
        return Tokenizer.load(folder)
    return Tokenizer.load(BASE) if name == "shipped base" else gemma_tokenizer()


@pytest.fixture(scope="module", params=["shipped base", "tokenizer.model", "gemma"])
def encoder(request, tmp_path_factory) -> Iterator[tuple[Tokenizer, LlamaCpp]]:
    tokenizer = load_tokenizer(request.param, tmp_path_factory.mktemp("tokenizer"))
    config = GemmaConfig(tokenizer.vocab_size, 32, 1, num_heads=1, num_kv_heads=1, head_dim=16, mlp_dim=32)
    path = tmp_path_factory.mktemp("vocabulary") / "a.gguf"
    write_gguf(path, config, tokenizer, read_whole(draw_tensors(config)), "q8_0")
    with serve(path) as llama:
        yield tokenizer, llama


@given(text=HOSTILE)
@settings(max_examples=200)
def test_llama_cpp_encodes_hostile_text_as_we_do(encoder, text):
    tokenizer, llama = encoder
    if "</s>" in tokenizer.pieces and tokenizer.pieces.index("</s>") in tokenizer.text_tokens:
        text = text.replace("</s>", "")  # llama.cpp takes this tag for a control token, whatever we say.
    assert llama.encode(text) == tokenizer.encode(text).tolist()


def test_llama_cpp_encodes_source_files_as_we_do(encoder):
    tokenizer, llama = encoder
    for file in sorted(Path(json.__file__).parent.glob("*.py")):
        text = file.read_text(encoding="utf-8")
        assert llama.encode(text) == tokenizer.encode(text).tolist()


def test_control_tokens_are_parsed_only_where_the_program_asks_for_it(encoder):
    _, llama = encoder
    for token_id, name in CONTROL_TOKENS.items():
        assert llama.encode(name, parse_special=True) == [token_id]
        assert token_id not in llama.encode(name)


def test_bos_stands_first_and_once(encoder):
    tokenizer, llama = encoder
    assert llama.encode("x", add_special=True) == [BOS_ID, *tokenizer.encode("x")]
    turns = [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Why?\n"}]
    rendered = llama.ask("/apply-template", messages=turns)["prompt"]
    ours = format_chat_prompt(tokenizer, [Turn("system", " Be brief. "), Turn("user", "Why?\n")])
    assert llama.encode(rendered, parse_special=True, add_special=True) == ours
    answer = llama.ask("/v1/chat/completions", messages=turns, max_tokens=1)
    assert answer["usage"]["prompt_tokens"] == len(ours)


@pytest.mark.parametrize("token_id", sorted(STOP_IDS))
def test_generation_ends_at_each_stop_token_without_a_trace_of_it(encoder, token_id):
    _, llama = encoder
    answer = llama.generate([BOS_ID, 400], 5, logit_bias=[[token_id, 1e6]])
    assert (answer["stop_type"], answer["tokens_predicted"], answer["content"]) == ("eos", 1, "")


def test_generation_goes_on_after_any_other_token(encoder):
    _, llama = encoder
    answer = llama.generate([BOS_ID, 400], 5, logit_bias=[[401, 1e6]])
    assert (answer["stop_type"], answer["tokens"]) == ("limit", [401] * 5)


@pytest.mark.parametrize(
    ("neighbors", "before"),
    [
        ([], ""),
        (
            [("src/a.py", "x = 1\n"), ("b.py", "y = 2\n")],
            "<|file_separator|>src/a.py\nx = 1\n<|file_separator|>b.py\ny = 2\n",
        ),
    ],
)
def test_infill_puts_separators_before_files_and_invents_no_project(encoder, neighbors, before):
    _, llama = encoder
    answer = llama.ask(
        "/infill",
        input_prefix="def f(x):\n    ",
        input_suffix="\n<bos>",
        input_extra=[{"filename": name, "text": text} for name, text in neighbors],
        n_predict=1,
    )
    # llama.cpp calls the open file `filename`, and puts `<bos>` after the other files.
    head, bos, rest = answer["prompt"].partition("<bos>")
    assert re.fullmatch(re.escape(before) + r"<\|file_separator\|>[^|]*", head)
    assert bos + rest == "<bos><|fim_prefix|>def f(x):\n    <|fim_suffix|>\n<bos><|fim_middle|>"


def test_llama_cpp_completes_with_the_shipped_base_as_we_do(tmp_path):
    with safe_open(BASE / "model.safetensors", framework="numpy") as weights:
        write_gguf(
            tmp_path / "a.gguf",
            describe_model(BASE),
            Tokenizer.load(BASE),
            lambda name: [weights.get_tensor(name)],
            "f32",
        )
    engine = GeneratorCompleter(Engine.load(BASE))
    source = Path(json.__file__).read_text(encoding="utf-8")
    cuts = [source.index(mark) + len(mark) for mark in ("def dump(", "if cls is ", "    return ", "raise TypeError(f'")]
    with serve(tmp_path / "a.gguf") as llama:
        for cut in cuts:
            request = Request(source[:cut], source[cut:], mode=InfillMode.PSM, max_new_tokens=24)
            ours = engine.complete_all([request])[0]
            theirs = llama.generate(engine.build_prompt(request), 24)
            assert [i for i in theirs["tokens"] if i not in STOP_IDS] == list(ours.token_ids)


def test_tokenizer_that_llama_cpp_would_take_otherwise_is_refused(tmp_path):
    definition = json.loads(small_tokenizer().to_json())
    pieces = sorted(definition["model"]["vocab"], key=definition["model"]["vocab"].get)
    vocab = definition["model"]["vocab"]
    # A piece that no merge makes, though two others make it up.
    unmade = pieces[-1]
    vocab["q~"] = vocab.pop(unmade)
    definition["model"]["merges"] = [m for m in definition["model"]["merges"] if "".join(m) != unmade]
    tokenizer = Tokenizer(definition)
    config = SHAPES["mqa"]
    with pytest.raises(InputError, match=r"would join the piece 'q~'"):
        write_gguf(tmp_path / "a.gguf", config, tokenizer, read_whole(draw_tensors(config)), "f16")


def test_trained_tokenizer_of_another_size_is_taken_alike(tmp_path):
    texts = [file.read_text(encoding="utf-8") for file in sorted(Path(json.__file__).parents[1].glob("*.py"))[:40]]
    tokenizer = train_tokenizer(texts, 4000)
    config = GemmaConfig(4000, 32, 1, num_heads=1, num_kv_heads=1, head_dim=16, mlp_dim=32)
    write_gguf(tmp_path / "a.gguf", config, tokenizer, read_whole(draw_tensors(config)), "q8_0")
    with serve(tmp_path / "a.gguf") as llama:
        for text in (text.replace("▁", "") for text in texts):
            assert llama.encode(text) == tokenizer.encode(text).tolist()
