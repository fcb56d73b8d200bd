"""OpenVINO GenAI on a GGUF file, in the interpreter of an environment that has it and nothing of ours.

    python benchmarks/peers/openvino_decode.py MODEL.gguf PROMPT_TOKENS NEW_TOKENS THREADS

It reads the same file as llama.cpp and keeps the weights in its own form. Prints one JSON object.
"""

import sys
import time
from pathlib import Path

import numpy as np
import openvino
import openvino_genai
from timing import print_speeds


def main() -> None:
    file, prompt_tokens, new_tokens, threads = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    started = time.perf_counter()
    model = openvino_genai.LLMPipeline(str(file), "CPU", INFERENCE_NUM_THREADS=threads)
    loaded_s = time.perf_counter() - started
    ids = np.array([[500 + number % 3000 for number in range(prompt_tokens)]], np.int64)
    inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))

    def write(count: int) -> None:
        config = openvino_genai.GenerationConfig(max_new_tokens=count, min_new_tokens=count, ignore_eos=True)
        config.do_sample = False
        model.generate(inputs, config)

    size = file.stat().st_size
    print_speeds(openvino_genai.__version__, write, prompt_tokens, new_tokens, loaded_s, size)


if __name__ == "__main__":
    main()
