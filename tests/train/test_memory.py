"""What cannot fit is refused before it is compiled, what was tried in vain is told with its sizes, and no more."""

import dataclasses

import jax
import pytest

from codegemma.errors import InputError
from codegemma.model.config import codegemma_2b, codegemma_7b
from codegemma.train import memory
from codegemma.train.choices import LoraChoices, TrainChoices
from codegemma.train.job import TrainJob
from codegemma.train.loop import train
from codegemma.train.memory import check_fits, estimate_need, explain_exhaustion

CHOICES = TrainChoices(batch_rows=16, row_tokens=8192, remat="full", activation_dtype="bfloat16")


def limit_to(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(memory, "_find_host_bytes", lambda: int(gib * 2**30))


def test_parameters_that_do_not_fit_are_refused_with_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, 24)
    said = r"at least \d+\.\d+ GiB \(37\.3\d GiB of parameters.* and has 24\.00\. Parameters alone.*train\.mesh"
    with pytest.raises(InputError, match=said):
        check_fits(codegemma_2b(), CHOICES, None)
    adapters = dataclasses.replace(CHOICES, batch_rows=1, lora=LoraChoices(rank=16, base_dtype="int4"))
    check_fits(codegemma_7b(), adapters, None)


def test_batch_that_does_not_fit_is_refused_with_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, 64)
    check_fits(codegemma_2b(), CHOICES, None)
    wide = dataclasses.replace(CHOICES, remat="none", batch_rows=32)
    said = r"of what layers keep for 32 rows of 8192 tokens.*Lower train\.batch_rows \(now 32\).*train\.remat=full"
    with pytest.raises(InputError, match=said):
        check_fits(codegemma_2b(), wide, None)


def test_nothing_is_refused_that_the_compiler_found_room_for() -> None:
    # 2B on v5e:4x4 needed 11.45 GiB with two rows a chip and qkvo, 6.71 with one row and full (training study, 2.2).
    two = dataclasses.replace(CHOICES, batch_rows=2, remat="qkvo", loss_chunk_tokens=512)
    need = estimate_need(codegemma_2b(), two, None)
    assert need.layers + need.logits < (11.45 - 1.75) * 2**30
    one = dataclasses.replace(CHOICES, batch_rows=1, loss_chunk_tokens=1024)
    need = estimate_need(codegemma_2b(), one, None)
    assert need.layers + need.logits < (6.71 - 1.75) * 2**30


def test_run_too_large_for_this_machine_is_refused_before_anything_is_written(
    job: TrainJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_to(monkeypatch, 1e-4)
    with pytest.raises(InputError, match="a step does not fit"):
        train(job)
    assert not job.out.exists()


@pytest.mark.parametrize(
    "error",
    [MemoryError("std::bad_alloc"), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")],
)
def test_memory_that_ran_out_is_told_with_the_sizes(error: Exception) -> None:
    with (
        pytest.raises(InputError, match=r"did not suffice.*37\.3\d GiB of parameters"),
        explain_exhaustion(codegemma_2b(), CHOICES, None),
    ):
        raise error


def test_other_errors_of_the_device_are_left_as_they_are() -> None:
    with pytest.raises(jax.errors.JaxRuntimeError), explain_exhaustion(codegemma_2b(), CHOICES, None):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
