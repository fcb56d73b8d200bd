"""The loader: endless, exact after a stop, and every token accounted for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.feed.packs import make_file, standard_packs
from tests.text.test_tokenizer import small_tokenizer

from codegemma.errors import InputError
from codegemma.feed.choices import FeedChoices, FeedError
from codegemma.feed.loader import Loader, RowShape, open_loader
from codegemma.records import Pack, Split
from codegemma.shards import write_records
from codegemma.text.control_tokens import BOS_ID, EOS_ID


def make_loader(rows=4, row_tokens=128, host=0, hosts=1, choices=None, seed=3):
    shape = RowShape(rows, row_tokens, host, hosts)
    return Loader(list(standard_packs()), small_tokenizer(), choices or FeedChoices(packing_bins=8), shape, seed)


def take(loader, count):
    return [next(loader) for _ in range(count)]


def assert_equal_batches(left, right):
    for a, b in zip(left, right, strict=True):
        for field in ("ids", "loss_weights", "segments", "positions"):
            assert np.array_equal(getattr(a, field), getattr(b, field))


@given(st.integers(0, 60), st.integers(1, 7))
@settings(deadline=None, max_examples=12)
def test_going_on_from_a_state_equals_no_interruption(before, after):
    straight = make_loader()
    take(straight, before)
    state = straight.get_state()
    expected = take(straight, after)
    resumed = make_loader()
    resumed.set_state(state)
    assert_equal_batches(take(resumed, after), expected)
    straight.close()
    resumed.close()


def test_batches_have_the_shape_and_the_fields_of_the_record():
    loader = make_loader()
    for batch in take(loader, 30):
        assert batch.ids.shape == batch.loss_weights.shape == batch.segments.shape == batch.positions.shape == (4, 128)
        assert batch.ids.dtype == batch.segments.dtype == batch.positions.dtype == np.int32
        assert batch.loss_weights.dtype == np.float32
        is_first = (batch.positions == 0) & (batch.segments > 0)
        assert (batch.ids[is_first] == BOS_ID).all()
        assert (batch.loss_weights[is_first] == 0).all()
        assert (batch.loss_weights[batch.segments == 0] == 0).all()
        assert (batch.loss_weights[(batch.segments > 0) & ~is_first] > 0).all()
        for row in range(4):
            for segment in range(1, batch.segments[row].max() + 1):
                inside = batch.segments[row] == segment
                assert (batch.positions[row][inside] == np.arange(inside.sum())).all()
                assert batch.ids[row][inside][-1] == EOS_ID
    loader.close()


def test_rows_are_well_filled():
    loader = make_loader(row_tokens=256, choices=FeedChoices())
    filled = np.mean([(batch.segments > 0).mean() for batch in take(loader, 40)])
    loader.close()
    assert filled > 0.85


def test_hosts_share_the_windows_without_overlap():
    seen = []
    for host in range(2):
        loader = make_loader(host=host, hosts=2, choices=FeedChoices(infill_share=0, path_share=1, packing_bins=8))
        epoch_batches = 4
        texts = set()
        for batch in take(loader, epoch_batches):
            for row in range(4):
                for segment in range(1, batch.segments[row].max() + 1):
                    texts.add(tuple(batch.ids[row][batch.segments[row] == segment].tolist()))
        seen.append(texts)
        loader.close()
    assert seen[0]
    assert not seen[0] & seen[1]


def test_a_state_of_other_data_or_choices_is_refused():
    loader, other = make_loader(), make_loader(choices=FeedChoices(infill_share=0.5, packing_bins=8))
    with pytest.raises(InputError, match="other data or choices"):
        other.set_state(loader.get_state())
    loader.close()
    other.close()


def test_a_loader_opens_from_the_file_that_build_writes(tmp_path):
    write_records(tmp_path / "packs-train.parquet", standard_packs())
    loader = open_loader(tmp_path, small_tokenizer(), FeedChoices(packing_bins=8), RowShape(4, 128), 3)
    straight = make_loader()
    assert_equal_batches(take(loader, 3), take(straight, 3))
    loader.close()
    straight.close()


def test_packs_without_text_are_refused_with_a_way_out(tmp_path):
    write_records(tmp_path / "packs-train.parquet", [Pack("p", "r", None, Split.TRAIN, (make_file("a.py", ""),))])
    with pytest.raises(FeedError, match="codegemma build"):
        open_loader(tmp_path, small_tokenizer(), FeedChoices(), RowShape(4, 128), 0)
