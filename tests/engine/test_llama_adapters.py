"""Adapters over one base in memory: each request gets its own, as if it had been merged."""

from pathlib import Path

import numpy as np
import pytest
from tests.model.test_lora import draw_adapters

from codegemma.engine.llama_cpp import LlamaCpp
from codegemma.engine.llama_start import LlamaChoices
from codegemma.errors import InputError
from codegemma.model.formats.peft import TARGETS, AdapterFile
from codegemma.model.lineage import Lineage
from codegemma.model.weights import describe_model
from codegemma.model.write import convert, write_adapter_model
from codegemma.records import Generation, TokenLogprob

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: make setup-dev")

BASE = Path(__file__).parents[2] / "src/codegemma/bases/tiny"
CHOICES = LlamaChoices(slots=2, threads=1, is_exact=True, draft_tokens=0)
IDS = (2, *range(400, 430))
# llama.cpp looks GELU up by float16: what differs by rounding may fall to the next entry.
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, an adapter of it, and the two merged; the first and last as GGUF."""
    folder, config = tmp_path_factory.mktemp("adapters"), describe_model(BASE)
    drawn = draw_adapters(config, TARGETS)
    matrices = {target: (np.asarray(pair["a"]), np.asarray(pair["b"])) for target, pair in drawn.items()}
    rank = next(iter(matrices.values()))[0].shape[-1]
    adapter = AdapterFile(rank, 0.5 * rank, 0.5, 0.0, matrices, str(BASE))
    write_adapter_model(folder / "adapter", config, adapter, Lineage("gemma"), {})
    convert(BASE, folder / "base", "gguf", "f32")
    convert(folder / "adapter", folder / "merged", "gguf", "f32")
    return {name: folder / name for name in ("base", "adapter", "merged")}


def rate(engine: LlamaCpp, adapter: str | None) -> list[TokenLogprob]:
    deltas = list(engine.generate(Generation(IDS, 4, top_logprobs=5, adapter=adapter)))
    return [logprob for delta in deltas for logprob in delta.logprobs]


def test_an_adapter_answers_as_if_it_were_merged_and_the_base_as_if_it_were_not_there(
    places, tmp_path_factory, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    found: dict[str, list[TokenLogprob]] = {}
    for name in ("base", "merged"):
        engine = LlamaCpp.load(places[name], CHOICES)
        found[name] = rate(engine, None)
        engine.close()
    both = LlamaCpp.load(places["base"], CHOICES, adapters={"mine": places["adapter"]})
    try:
        # In turn, so that neither finds what the other has read.
        for _ in range(2):
            for name, adapter in (("base", None), ("merged", "mine")):
                ours = rate(both, adapter)
                assert [one.token_id for one in ours] == [one.token_id for one in found[name]]
                for one, other in zip(ours, found[name], strict=True):
                    assert one.logprob == pytest.approx(other.logprob, abs=TOLERANCE)
        assert abs(found["base"][0].logprob - found["merged"][0].logprob) > 20 * TOLERANCE
        with pytest.raises(InputError, match="unknown adapter 'other'; loaded: mine"):
            both.generate(Generation(IDS, adapter="other"))
    finally:
        both.close()


def test_what_is_no_adapter_is_refused(places, tmp_path):
    with pytest.raises(InputError, match="no such adapter"):
        LlamaCpp.load(places["base"], CHOICES, adapters={"mine": tmp_path})
