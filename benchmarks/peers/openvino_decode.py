"""OpenVINO GenAI on a GGUF file, in the interpreter of an environment that has it and nothing of ours.

    python benchmarks/peers/openvino_decode.py MODEL.gguf PROMPT_TOKENS NEW_TOKENS THREADS

It reads the same file as llama.cpp and keeps the weights in its own form. Prints one JSON object.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import openvino
import openvino_genai


def main() -> None:
    file, prompt_tokens, new_tokens, threads = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    started = time.perf_counter()
    model = openvino_genai.LLMPipeline(str(file), "CPU", INFERENCE_NUM_THREADS=threads)
    loaded_s = time.perf_counter() - started
    ids = np.array([[500 + number % 3000 for number in range(prompt_tokens)]], np.int64)
    inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))

    def write(count: int) -> float:
        config = openvino_genai.GenerationConfig(max_new_tokens=count, min_new_tokens=count, ignore_eos=True)
        config.do_sample = False
        began = time.perf_counter()
        model.generate(inputs, config)
        return time.perf_counter() - began

    write(1)
    one, all_of_them = write(1), write(new_tokens + 1)
    pages = Path("/proc/self/status").read_text(encoding="ascii")
    resident = next(int(line.split()[1]) for line in pages.splitlines() if line.startswith("VmRSS"))
    print(
        json.dumps(
            {
                "version": openvino_genai.__version__,
                "load_s": loaded_s,
                "file_bytes": file.stat().st_size,
                "prefill": prompt_tokens / one,
                "decode": new_tokens / (all_of_them - one),
                "memory_bytes": resident * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
