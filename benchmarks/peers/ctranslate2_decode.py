"""CTranslate2 on a decoder of given dimensions, in the interpreter of an environment that has it and nothing of ours.

    python benchmarks/peers/ctranslate2_decode.py '{"layers": 18, "width": 2048, ...}' PROMPT_TOKENS NEW_TOKENS THREADS

Random weights in its own int8, laid out by its own specification. Prints one JSON object.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import ctranslate2
import numpy as np
from ctranslate2.specs import common_spec, transformer_spec
from timing import print_speeds

DRAWN = np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32) * np.float32(0.02)


def draw(*shape: int) -> np.ndarray:
    return np.resize(DRAWN, shape)


def write_model(folder: Path, shape: dict[str, int]) -> None:
    d, heads, kv, a, f = (shape[name] for name in ("width", "heads", "kv_heads", "head_width", "mlp_width"))
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        shape["layers"],
        heads,
        activation=common_spec.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        num_heads_kv=kv,
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = draw(shape["vocabulary"], d)
    decoder.projection.weight = decoder.embeddings.weight
    decoder.layer_norm.gamma = np.ones(d, np.float32)
    for layer in decoder.layer:
        layer.self_attention.layer_norm.gamma = layer.ffn.layer_norm.gamma = np.ones(d, np.float32)
        layer.self_attention.linear[0].weight = draw((heads + 2 * kv) * a, d)
        layer.self_attention.linear[1].weight = draw(d, heads * a)
        layer.ffn.linear_0.weight = draw(f, d)
        layer.ffn.linear_0_noact.weight = draw(f, d)
        layer.ffn.linear_1.weight = draw(d, f)
    spec.register_vocabulary([f"t{number}" for number in range(shape["vocabulary"])])
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = "t2", "t1", "t3"
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))


def main() -> None:
    shape, prompt_tokens, new_tokens, threads = json.loads(sys.argv[1]), *map(int, sys.argv[2:5])
    with tempfile.TemporaryDirectory() as name:
        write_model(Path(name), shape)
        size = sum(file.stat().st_size for file in Path(name).iterdir())
        started = time.perf_counter()
        model = ctranslate2.Generator(name, device="cpu", compute_type="int8", intra_threads=threads)
        loaded_s = time.perf_counter() - started
    prompt = [f"t{500 + number % 3000}" for number in range(prompt_tokens)]

    def write(count: int) -> None:
        result = model.generate_batch(
            [prompt], max_length=count, min_length=count, sampling_topk=1, include_prompt_in_result=False
        )
        assert len(result[0].sequences[0]) == count

    print_speeds(ctranslate2.__version__, write, prompt_tokens, new_tokens, loaded_s, size)


if __name__ == "__main__":
    main()
