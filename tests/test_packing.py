"""Plans put every document in one micro-batch within the budget; packs put every target where its context is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.packing import Branch, Doc, Segment, build, plan, size

PAIR = Doc([10, 11, 12], [Branch([20, 21], [True, True]), Branch([30, 31, 32], [True, False, True])])
CHAT = Doc([], [Branch([40, 41, 42], [True, False, True])])


@given(st.lists(st.integers(1, 100), max_size=200), st.sampled_from([None, 0, 7]))
@settings(max_examples=60, deadline=None)
def test_plan_is_a_partition_within_the_budget(sizes, seed):
    plans = plan(sizes, 100, seed=seed)
    assert sorted(i for bin in plans for i in bin) == list(range(len(sizes)))
    assert all(sum(sizes[i] for i in bin) <= 100 for bin in plans)
    assert plans == plan(sizes, 100, seed=seed)


def test_plan_fills_well_and_mixes():
    """4,000 documents of 10 to 89 tokens, budget 1,000: at least 97% of the budget is used, seeds differ, and the
    mean size of a micro-batch's documents does not drift from the first to the second half of the epoch."""
    sizes = [10 + i * 37 % 80 for i in range(4000)]
    plans = plan(sizes, 1000, seed=1)
    assert sum(sizes) / (1000 * len(plans)) > 0.97
    assert plans != plan(sizes, 1000, seed=2)
    half = len(plans) // 2
    mean = [sum(sizes[i] for b in part for i in b) / sum(map(len, part)) for part in (plans[:half], plans[half:])]
    assert abs(mean[0] - mean[1]) < 8  # sorted by size they would differ by 40


def test_plan_refuses_what_cannot_fit():
    with pytest.raises(ValueError, match="the first is 1"):
        plan([5, 11, 3], 10, seed=0)


def test_shared_pair_by_hand():
    """prompt 10 11 12 at 0..2, chosen 20 21 at 3..4, rejected 30 31 32 at 5..7, chat 40 41 42 at 8..10.

    Targets: 20 from 2, 21 from 3; 30 from 2, 32 from 6; 42 from 9 (40 has nothing before it).
    """
    pack = build([PAIR, CHAT])
    assert pack.ids_T.tolist() == [10, 11, 12, 20, 21, 30, 31, 32, 40, 41, 42]
    assert pack.position_T.tolist() == [0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 2]
    assert pack.layout.segments() == [
        Segment(0, 3, 0, 0), Segment(3, 5, 0, 3), Segment(5, 8, 0, 3), Segment(8, 11, 8, 8),
    ]  # fmt: skip
    assert pack.at_N.tolist() == [2, 3, 2, 6, 9]
    assert pack.target_N.tolist() == [20, 21, 30, 32, 42]
    assert pack.branch_N.tolist() == [0, 0, 1, 1, 2]
    assert (pack.branches, pack.tokens, pack.unshared_tokens) == (3, 11, 14)
    assert size(PAIR) == 8


def test_unshared_pair_by_hand():
    pack = build([PAIR], share=False)
    assert pack.ids_T.tolist() == [10, 11, 12, 20, 21, 10, 11, 12, 30, 31, 32]
    assert pack.position_T.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5]
    assert pack.layout.segments() == [Segment(0, 5, 0, 0), Segment(5, 11, 5, 5)]
    assert pack.at_N.tolist() == [2, 3, 7, 9]
    assert (pack.branches, pack.tokens, pack.unshared_tokens) == (2, 11, 11)


def test_a_prefix_with_one_branch_is_one_segment():
    pack = build([Doc([1, 2], [Branch([3], [True])])])
    assert pack.layout.segments() == [Segment(0, 3, 0, 0)]
    assert pack.at_N.tolist() == [1]


@pytest.mark.parametrize(("pad_to", "length"), [(0, 8), (32, 32), (512, 64), (4096, 512)])
def test_padding_to_eighths(pad_to, length):
    """8 tokens: an eighth of 512 is 64, of 4,096 is 512, never less than 32. Padding is in no segment."""
    pack = build([PAIR], pad_to=pad_to, pad_id=9)
    assert len(pack.ids_T) == len(pack.position_T) == length
    assert pack.ids_T[8:].tolist() == [9] * (length - 8)
    assert max(s.q1 for s in pack.layout.segments()) == 8
    assert pack.tokens == 8


def test_no_targets_and_no_documents():
    pack = build([Doc([], [Branch([1], [True])])])
    assert len(pack.at_N) == 0
    assert pack.at_N.dtype == torch.long
    empty = build([])
    assert (len(empty.ids_T), empty.branches, empty.layout.segments()) == (0, 0, [])
