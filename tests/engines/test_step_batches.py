"""Every step has the pairs that one process would have, each once, whatever the number of processes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossward.engines.step_batches import NAME, StepBatches, StepLoader


def test_by_hand():
    """7 pairs in steps of 4 by two processes, micro-batches of 1: the second step has 3 pairs."""
    order = torch.randperm(7, generator=torch.Generator().manual_seed(5)).tolist()
    one, two = (
        [
            [(place["row"], place["counts"]) for place in batch]
            for batch in StepBatches(7, micro=1, batch=4, processes=2, process=k, seed=5)
        ]
        for k in (0, 1)
    )
    a, b, c, d, e, f, g = order
    assert one == [[(a, True)], [(c, True)], [(e, True)], [(g, True)]]
    assert two == [[(b, True)], [(d, True)], [(f, True)], [(g, False)]]


@given(
    n=st.integers(1, 40),
    micro=st.integers(1, 3),
    accumulation=st.integers(1, 3),
    processes=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_every_pair_of_every_step_counts_once(n: int, micro: int, accumulation: int, processes: int, epoch: int):
    batch = micro * accumulation * processes
    order = torch.randperm(n, generator=torch.Generator().manual_seed(9 + epoch)).tolist()
    own = [StepBatches(n, micro=micro, batch=batch, processes=processes, process=k, seed=9) for k in range(processes)]
    for batches in own:
        batches.set_epoch(epoch)
    taken = [list(batches) for batches in own]
    assert {len(batches) for batches in own} == {len(each) for each in taken} == {len(taken[0])}
    assert all(1 <= len(places) <= micro for each in taken for places in each)
    steps = -(-n // batch)
    for step in range(steps):
        window = slice(step * accumulation, (step + 1) * accumulation)
        counted = [place["row"] for each in taken for places in each[window] for place in places if place["counts"]]
        assert sorted(counted) == sorted(order[step * batch : (step + 1) * batch])


@pytest.mark.parametrize("processes", [1, 2])
def test_micro_batches_are_those_of_one_process(processes: int):
    """A mean over a micro-batch's tokens is then the same, however many processes there are."""
    alone = [[p["row"] for p in places] for places in StepBatches(11, micro=2, batch=4, seed=3)]
    shared = [
        [[p["row"] for p in places] for places in StepBatches(
            11, micro=2, batch=4, processes=processes, process=k, seed=3
        ) if places[0]["counts"]]
        for k in range(processes)
    ]  # fmt: skip
    assert sorted(map(sorted, alone)) == sorted(sorted(batch) for each in shared for batch in each)


def test_the_loader_counts_the_pairs_that_count():
    table = [{"x": k} for k in range(5)]
    loader = StepLoader(
        table,
        StepBatches(5, micro=2, batch=4, processes=2, process=1, seed=0),
        lambda rows: {"x": [row["x"] for row in rows]},
        pin_memory=False,
    )
    assert [batch[NAME] for batch in loader] == [2, 0]
    first = [batch["x"] for batch in loader]
    loader.set_epoch(1)
    assert [batch["x"] for batch in loader] != first
