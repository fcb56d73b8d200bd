"""datatrove's MinHash on JSON Lines of texts, in the interpreter of an environment that has it and nothing of ours.

    python benchmarks/peers/datatrove_minhash.py texts.jsonl folder

Prints one JSON object: CPU seconds of each configuration's steps, and which texts it removes. All steps of datatrove
are its own, called as its executors call them, in one process; reading and parsing the input is not counted. Its word
tokenizer needs spaCy, and its normalisation takes most of the time and every operator away, so both configurations are
made faster than the default: a compiled pattern splits words, and no text is normalised. `words` shingles words alone,
its fastest; `tokens` shingles the same tokens as we do.
"""

import json
import re
import sys
import time
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.dedup import minhash
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupSignature,
)
from datatrove.utils.logging import logger
from datatrove.utils.text import TextNormConfig

PATTERNS = {"words": re.compile(r"\w+"), "tokens": re.compile(r"\w+|[^\w\s]")}
AS_IS = TextNormConfig(
    lowercase=False,
    norm_whitespace=False,
    remove_punctuation=False,
    norm_unicode_diacritics=False,
    norm_numbers=False,
)


class PatternTokenizer:
    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.word_tokenize = pattern.findall


def deduplicate(texts: list[str], folder: Path, name: str) -> dict[str, object]:
    minhash.load_word_tokenizer = lambda _language: PatternTokenizer(PATTERNS[name])
    config = MinhashConfig(norm_config=AS_IS)
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    cpu_s, started_s = {}, time.process_time()
    MinhashDedupSignature(str(folder / "signatures"), config).run(iter(documents))
    cpu_s["signatures"] = time.process_time() - started_s
    started_s = time.process_time()
    for rank in range(config.num_buckets):
        buckets = MinhashDedupBuckets(str(folder / "signatures"), str(folder / "pairs"), config=config)
        buckets.run(None, rank, config.num_buckets)
    MinhashDedupCluster(str(folder / "pairs"), str(folder / "removed"), config).run()
    cpu_s["search"] = time.process_time() - started_s
    removed = (folder / "removed" / "000000.remove").read_bytes()
    numbers = [int.from_bytes(removed[i : i + 4], "little") for i in range(0, len(removed), 4)]
    return {"cpu_s": cpu_s, "removed": numbers}


def main() -> int:
    logger.remove()
    texts = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    print(json.dumps({name: deduplicate(texts, Path(sys.argv[2]) / name, name) for name in PATTERNS}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
