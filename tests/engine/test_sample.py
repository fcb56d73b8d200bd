import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.penalties import penalise

from codegemma.engine.sample import (
    Changes,
    RowSampling,
    change_logits,
    choose_tokens,
    gather_sampling,
    rate_tokens,
)
from codegemma.records import Sampling

PROBABILITIES = np.array([0.5, 0.3, 0.15, 0.05])
LOGITS = jnp.log(jnp.asarray(PROBABILITIES))


def gather(rows: list[Sampling], written: int = 0, vocab_size: int = 4) -> RowSampling:
    return gather_sampling([(row, written) for row in rows], vocab_size)


def count_draws(*, is_ranked: bool = True, **sampling: float) -> np.ndarray:
    rows = gather([Sampling(**{"temperature": 1.0, **sampling}, seed=seed) for seed in range(4096)])  # type: ignore[arg-type]
    drawn = choose_tokens(jnp.broadcast_to(LOGITS, (4096, 1, 4)), rows, is_ranked=is_ranked)
    return np.bincount(np.asarray(drawn)[:, 0], minlength=4) / 4096


@pytest.mark.parametrize("is_ranked", [False, True])
def test_draws_follow_the_probabilities(is_ranked: bool) -> None:
    assert np.abs(count_draws(is_ranked=is_ranked) - PROBABILITIES).max() < 0.03


def test_temperature_sharpens_by_its_power() -> None:
    wanted = PROBABILITIES**2
    assert np.abs(count_draws(temperature=0.5) - wanted / wanted.sum()).max() < 0.03


def test_top_k_keeps_the_k_most_probable_in_proportion() -> None:
    assert np.abs(count_draws(top_k=2) - [0.625, 0.375, 0, 0]).max() < 0.03


@pytest.mark.parametrize(("top_p", "kept"), [(0.01, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (1.0, 4)])
def test_top_p_keeps_the_fewest_that_reach_the_share(top_p: float, kept: int) -> None:
    assert (count_draws(top_p=top_p) > 0).sum() == kept


@pytest.mark.parametrize(("min_p", "kept"), [(0.0, 4), (0.09, 4), (0.11, 3), (0.31, 2), (0.61, 1), (1.0, 1)])
@pytest.mark.parametrize("is_ranked", [False, True])
def test_min_p_keeps_what_has_a_share_of_the_most_probable(min_p: float, kept: int, is_ranked: bool) -> None:
    assert (count_draws(min_p=min_p, is_ranked=is_ranked) > 0).sum() == kept


def test_temperature_zero_is_greedy_in_a_mixed_batch() -> None:
    logits = jnp.array([[[0.0, 1.0, 1.0, 0.5]]] * 2)
    chosen = choose_tokens(logits, gather([Sampling(), Sampling(temperature=9.0)]), is_ranked=False)
    assert int(chosen[0, 0]) == 1


def test_draw_depends_on_seed_and_token_number_not_on_neighbours_or_ranking() -> None:
    rows = [Sampling(temperature=1.0, seed=seed) for seed in range(50)]
    flat = jnp.zeros((50, 3, 40))
    together = np.asarray(choose_tokens(flat, gather(rows, 7, 40), is_ranked=False))
    assert together.tolist() == np.asarray(choose_tokens(flat, gather(rows, 7, 40), is_ranked=True)).tolist()
    alone = [np.asarray(choose_tokens(flat[:1], gather([r], 7, 40), is_ranked=False))[0].tolist() for r in rows]
    assert together.tolist() == alone
    # Place r of one step is place 0 of the step that comes r tokens later.
    later = np.asarray(choose_tokens(flat[:, :1], gather(rows, 9, 40), is_ranked=False))
    assert together[:, 2].tolist() == later[:, 0].tolist() != together[:, 0].tolist()


def change(logits: list[float], bias: list[float], times: list[int], *penalties: float) -> list[float]:
    row = [np.asarray([value], np.float32) for value in penalties]
    changes = Changes(np.asarray([bias], np.float32), np.asarray([times], np.int32), *row)
    changed: list[float] = change_logits(jnp.asarray([[logits]]), changes)[0, 0].tolist()
    return changed


def test_bias_forbids_and_penalties_shrink_what_was_there() -> None:
    assert change([3.0, 2.0, -1.0, 0.0], [-np.inf, 0, 0, 0], [0] * 4, 1, 0, 0) == [-np.inf, 2, -1, 0]
    assert change([3.0, 2.0, -1.0, 0.0], [0] * 4, [1, 0, 2, 0], 2, 0, 0) == [1.5, 2, -2, 0]
    assert change([3.0, 2.0, -1.0, 0.0], [0] * 4, [1, 0, 2, 0], 1, 0.5, 0.25) == [2.25, 2, -2, 0]


values = st.floats(-8, 8, width=32)


@given(
    logits=st.lists(values, min_size=5, max_size=5),
    ids=st.lists(st.integers(0, 4), max_size=12),
    penalties=st.tuples(st.floats(0.125, 4, width=32), values, values),
    last=st.none() | st.integers(0, 14),
)
@settings(max_examples=60, deadline=None)
def test_penalties_are_those_of_their_definitions(
    logits: list[float], ids: list[int], penalties: tuple[float, float, float], last: int | None
) -> None:
    repetition, presence, frequency = penalties
    sampling = Sampling(
        repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency, penalized_tokens=last,
        logit_bias=((2, 1.5),),
    )  # fmt: skip
    counted = ids if last is None else ids[max(len(ids) - last, 0) :]
    changed = change(logits, [0, 0, 1.5, 0, 0], [counted.count(i) for i in range(5)], *penalties)
    np.testing.assert_allclose(changed, penalise(np.asarray(logits), ids, sampling), rtol=1e-5, atol=1e-4)


def test_rating_is_the_log_softmax() -> None:
    rating = rate_tokens(LOGITS[None, None], jnp.array([[2]]))
    assert np.exp(np.asarray(rating.logprobs)) == pytest.approx(0.15)
    assert np.asarray(rating.top_ids).tolist() == [[[0, 1, 2, 3]]]
    np.testing.assert_allclose(np.exp(rating.top_logprobs[0, 0]), PROBABILITIES, rtol=1e-5)
