import jax.numpy as jnp
import numpy as np
import pytest

from codegemma.engine.sample import RowSampling, choose_greedy, choose_sampled, gather_sampling
from codegemma.errors import InputError
from codegemma.records import Sampling

LOGITS = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))


def make_sampling(
    rows: int, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> RowSampling:
    requests = [Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=s) for s in range(rows)]
    return gather_sampling(requests, vocab_size=4)


def count_draws(sampling: RowSampling) -> np.ndarray:
    rows = len(sampling.seed)
    drawn = choose_sampled(jnp.broadcast_to(LOGITS, (rows, 4)), sampling, 0)
    return np.bincount(np.asarray(drawn), minlength=4) / rows


def test_draws_follow_the_probabilities() -> None:
    assert np.abs(count_draws(make_sampling(4096)) - [0.5, 0.3, 0.15, 0.05]).max() < 0.03


def test_temperature_sharpens_by_its_power() -> None:
    wanted = np.array([0.5, 0.3, 0.15, 0.05]) ** 2
    assert np.abs(count_draws(make_sampling(4096, temperature=0.5)) - wanted / wanted.sum()).max() < 0.03


def test_top_k_keeps_the_k_most_probable_in_proportion() -> None:
    assert np.abs(count_draws(make_sampling(4096, top_k=2)) - [0.625, 0.375, 0, 0]).max() < 0.03


@pytest.mark.parametrize(("top_p", "kept"), [(0.01, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (1.0, 4)])
def test_top_p_keeps_the_fewest_that_reach_the_share(top_p: float, kept: int) -> None:
    assert (count_draws(make_sampling(4096, top_p=top_p)) > 0).sum() == kept


def test_temperature_zero_is_greedy_in_a_mixed_batch() -> None:
    logits = jnp.array([[0.0, 1.0, 1.0, 0.5]] * 2)
    sampling = gather_sampling([Sampling(), Sampling(temperature=9.0)], vocab_size=4)
    assert int(choose_sampled(logits, sampling, 0)[0]) == int(choose_greedy(logits)[0]) == 1


def test_draw_depends_on_seed_and_token_number_not_on_neighbours() -> None:
    requests = [Sampling(temperature=1.0, seed=s) for s in range(50)]
    flat = jnp.zeros((50, 4))
    together = np.asarray(choose_sampled(flat, gather_sampling(requests, 4), 7))
    alone = [int(choose_sampled(flat[:1], gather_sampling([r], 4), 7)[0]) for r in requests]
    assert together.tolist() == alone
    assert together.tolist() != np.asarray(choose_sampled(flat, gather_sampling(requests, 4), 8)).tolist()


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0}])
def test_value_out_of_range_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        gather_sampling([Sampling(**wrong)], vocab_size=4)  # type: ignore[arg-type]
