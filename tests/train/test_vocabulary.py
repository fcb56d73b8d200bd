"""However devices share the embedding, they compute what one device computes; and they share as sends the least."""

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.model.vocabulary import divide_vocabulary

FOUR = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}


@pytest.mark.parametrize(("lookers", "scorers"), [(1, 1), (2, 2), (4, 4), (2, 4)])
def test_every_way_of_sharing_computes_what_one_device_does(lookers: int, scorers: int) -> None:
    command = [sys.executable, "-m", "tests.train.shared_vocabulary", str(lookers), str(scorers)]
    done = subprocess.run(command, env=os.environ | FOUR, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    differences = json.loads(done.stdout.splitlines()[-1])
    assert {"emb", "loss", "group_surprise"} <= differences.keys()
    assert max(differences.values()) < 1e-5, differences


@given(st.integers(0, 8), st.integers(7, 12), st.integers(0, 6), st.integers(1, 2**17))
def test_groups_divide_devices_and_vocabulary(devices: int, width: int, odd: int, tokens: int) -> None:
    vocab = (2 * odd + 1) * 2**7
    shared = divide_vocabulary(2**devices, vocab, 2**width, tokens, jnp.float32)
    assert 2**devices % shared.scorers == 0
    assert 2**devices % shared.lookers == 0
    assert vocab % shared.scorers == 0
    assert 2**width // shared.lookers >= 128


@pytest.mark.parametrize(
    ("devices", "tokens", "scorers"), [(1, 8192, 1), (4, 8192, 4), (16, 8192, 8), (256, 131072, 2)]
)
def test_more_tokens_are_scored_by_fewer_devices(devices: int, tokens: int, scorers: int) -> None:
    assert divide_vocabulary(devices, 256_000, 2048, tokens, jnp.bfloat16).scorers == scorers
