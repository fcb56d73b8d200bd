"""A mixture delivers the shares that its recipe names, and is exact after a stop; without one all is as it was."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.feed.packs import mixed_packs, standard_packs
from tests.feed.test_loader import assert_equal_batches, take
from tests.feed.test_trace import assert_spelled_at, find_file, trace_all
from tests.text.test_tokenizer import small_tokenizer

from codegemma.feed.choices import FeedChoices, FeedError, describe_feed
from codegemma.feed.frozen import freeze_rows, read_frozen
from codegemma.feed.loader import Loader, RowShape
from codegemma.feed.mixture import MixtureChoices, choose_source, list_deliveries
from codegemma.feed.trace import Part, list_batch
from codegemma.recipe import override
from codegemma.records import SourceKind

THREE = ("code=0.5", "mathematics=0.3", "text=0.2")


def make_loader(*shares, packs=None, shape=None, bins=8, **choices):
    feed = FeedChoices(packing_bins=bins, mixture=MixtureChoices(shares), **choices)
    return Loader(list(packs or mixed_packs()), small_tokenizer(), feed, shape or RowShape(4, 128), 3)


def count_shares(loader, batches):
    tokens = np.sum([loader.count_tokens(loader.take_known()) for _ in range(batches)], axis=0)
    return (tokens / tokens.sum()).tolist()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.lists(st.integers(1, 500), min_size=1))
def test_no_source_is_ever_further_ahead_than_one_window(weights, lengths):
    shares, tokens = [weight / sum(weights) for weight in weights], [0] * len(weights)
    for length in lengths:
        tokens[choose_source(shares, tokens)] += length
        for share, count in zip(shares, tokens, strict=True):
            assert count <= share * sum(tokens) + max(lengths) + 1e-6


@given(st.integers(10, 90), st.integers(1, 9))
@settings(deadline=None, max_examples=8)
def test_delivered_shares_are_those_of_the_recipe_within_one_percent(code, text_tenths):
    text = (100 - code) * text_tenths / 10
    shares = {"code": code, "text": text, "mathematics": 100 - code - text}
    loader = make_loader(*(f"{name}={weight}" for name, weight in shares.items()))
    delivered = count_shares(loader, 150)
    loader.close()
    assert delivered == pytest.approx([weight / 100 for weight in shares.values()], abs=0.01)


@pytest.mark.parametrize(("preset", "shares"), [("code", [1.0]), ("code_and_text", [0.8, 0.2])])
def test_presets_deliver_the_shares_of_the_report(preset, shares):
    loader = make_loader(preset, shape=RowShape(8, 256), bins=32)
    assert count_shares(loader, 100) == pytest.approx(shares, abs=0.01)
    loader.close()


def test_kinds_of_one_source_stand_as_the_data_have_them():
    loader = make_loader("text+mathematics=1")
    kinds = set()
    for _ in range(20):
        kinds |= {piece.repo for piece in list_batch(loader, loader.take_known())}
    loader.close()
    assert kinds == {"text", "mathematics"}


@given(st.integers(0, 40), st.integers(1, 5))
@settings(deadline=None, max_examples=8)
def test_going_on_from_a_state_equals_no_interruption(before, after):
    straight, resumed = make_loader(*THREE), make_loader(*THREE)
    take(straight, before)
    state = straight.get_state()
    expected = take(straight, after)
    resumed.set_state(state)
    assert_equal_batches(take(resumed, after), expected)
    assert resumed.epochs == straight.epochs
    straight.close()
    resumed.close()


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_share_the_windows_of_every_source_without_overlap_in_every_epoch(hosts):
    seen: dict[int, list[tuple[int, str, int]]] = {epoch: [] for epoch in range(2)}
    for host in range(hosts):
        loader = make_loader(*THREE, shape=RowShape(2, 128, host, hosts))
        assert count_shares(loader, 150) == pytest.approx([0.5, 0.3, 0.2], abs=0.01)
        loader.set_state(loader.first_state)
        while min(loader.epochs) < 2:
            for piece in list_batch(loader, loader.take_known()):
                if piece.epoch in seen:
                    seen[piece.epoch].append((host, piece.path, piece.start))
        loader.close()
    every = sorted((loader.packs[p.pack].files[p.file].path, p.start) for window in loader.windows for p in window)
    for places in seen.values():
        assert sorted((path, start) for _, path, start in set(places)) == every


def test_one_kind_alone_is_read_as_it_is_without_a_mixture():
    mixed, plain = make_loader("code"), make_loader(packs=standard_packs())
    assert_equal_batches(take(mixed, 20), take(plain, 20))
    assert mixed.get_state()["position"] == plain.get_state()["position"]
    mixed.close()
    plain.close()


def test_choices_without_a_mixture_are_spelled_as_before_and_with_one_come_back():
    assert "mixture" not in describe_feed(FeedChoices())
    choices = override(FeedChoices(), ["mixture.shares=code=0.9,text=0.1", "mixture.max_epochs=4"])
    assert FeedChoices(**describe_feed(choices)) == choices
    assert [source.share for source in choices.mixture.list_sources()] == [0.9, 0.1]


def test_documents_are_plain_text_without_hole_or_path():
    loader = make_loader("mathematics+text=1", infill_share=1.0, path_share=1.0)
    for known in (loader.take_known() for _ in range(10)):
        assert {piece.mode for piece in list_batch(loader, known)} == {None}
        assert {origin.part for origin in trace_all(loader, known)} <= {Part.WHOLE, Part.CONTROL, Part.PADDING}
    loader.close()


def test_every_token_of_a_mixture_is_told_its_file():
    loader, told = make_loader(*THREE), set()
    for known in (loader.take_known() for _ in range(8)):
        for origin in trace_all(loader, known):
            if origin.piece is not None and origin.span is not None and origin.part is not Part.PATH:
                assert_spelled_at(find_file(list(mixed_packs()), origin).text, origin)
                told.add(origin.piece.repo)
    loader.close()
    assert told == {"std", "text", "mathematics"}


def test_frozen_rows_of_a_mixture_are_those_that_the_loader_gives(tmp_path):
    loader, fresh = make_loader(*THREE), make_loader(*THREE)
    freeze_rows(loader, tmp_path, 10, {})
    assert_equal_batches(list(read_frozen(tmp_path)), take(fresh, 10))
    loader.close()
    fresh.close()


def test_a_short_source_is_read_again_and_again_and_its_epochs_are_told():
    loader = make_loader("code=0.1", "mathematics=0.9")
    tokens = np.sum([loader.count_tokens(loader.take_known()) for _ in range(200)], axis=0)
    code, mathematics = list_deliveries(loader.sources, tokens.tolist(), loader.epochs)
    assert mathematics.epochs > 4 > code.epochs
    assert loader.epoch == int(mathematics.epochs)
    assert loader.estimate_epochs(int(tokens.sum())) == pytest.approx([code.epochs, mathematics.epochs], rel=0.1)
    loader.close()


def test_a_source_that_the_data_lack_is_named_with_a_way_out():
    with pytest.raises(FeedError, match=r"wants 20.0% text\+mathematics, and the data hold only code.*text=PATH"):
        make_loader("code_and_text", packs=standard_packs())
    few = [pack for pack in mixed_packs() if pack.kind is not SourceKind.TEXT or pack.pack_id == "text0"]
    with pytest.raises(FeedError, match="windows of text cannot feed 9 hosts"):
        make_loader(*THREE, packs=few, shape=RowShape(4, 512, 0, 9))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (("prose=1",), "share 'prose=1': wanted code or code_and_text, or kind=weight.*kinds code, mathematics"),
        (("code",), None),
        (("code=x",), "share 'code=x'"),
        (("code=-1",), "share 'code=-1'"),
        (("code=nan",), "share 'code=nan'"),
        (("code=0",), "a weight above 0"),
        (("code=inf",), "a weight above 0"),
        (("code=1", "text+code=1"), "each kind once"),
        (("code_and_text", "code=1"), "share 'code_and_text'"),
    ],
)
def test_shares_that_cannot_be_are_refused_with_what_can(shares, message):
    if message is None:
        assert MixtureChoices(shares).list_sources()[0].share == 1
        return
    with pytest.raises(ValueError, match=message):
        MixtureChoices(shares)


def test_epochs_have_a_limit_above_zero():
    with pytest.raises(ValueError, match="max_epochs"):
        MixtureChoices(max_epochs=0)
    assert dataclasses.replace(MixtureChoices(), max_epochs=2.5).max_epochs == 2.5
