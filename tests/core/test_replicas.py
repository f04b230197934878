"""How many replicas a cluster has room for."""

import pytest

from crossward.core.replicas import Pool, planned

GPU_NODE = {"GPU": 8.0, "CPU": 64.0, "memory": 2**40}


def scorers(needs: dict[str, float], *counts: int | None, shares: bool = False) -> list[Pool]:
    names = ("policy", "reference")
    return [Pool(name=name, needs=needs, replicas=n, shares=shares) for name, n in zip(names, counts, strict=True)]


def counts(pools: list[Pool], nodes: list[dict[str, float]], most: int = 100) -> list[int | None]:
    return [pool.replicas for pool in planned(pools, nodes, most=most)]


def test_room_is_dealt_out_in_turns():
    assert counts(scorers({"GPU": 1}, None, None), [GPU_NODE, GPU_NODE]) == [8, 8]
    assert counts(scorers({"GPU": 1}, 2, None), [GPU_NODE]) == [2, 6]
    assert counts(scorers({"GPU": 1}, None, None), [{"GPU": 5}]) == [3, 2]
    assert counts(scorers({"CPU": 2}, None, None), [{"CPU": 16}]) == [4, 4]


def test_no_more_replicas_than_pieces_and_none_where_nothing_bounds_them():
    assert counts(scorers({"GPU": 1}, None, 8), [GPU_NODE, GPU_NODE], most=3) == [3, 3]
    assert counts(scorers({"CPU": 0}, None, None), [{"CPU": 1}]) == [1, 1]


def test_a_replica_stands_on_one_node():
    assert counts(scorers({"GPU": 4}, None, None), [{"GPU": 6}, {"GPU": 6}]) == [1, 1]
    with pytest.raises(ValueError, match=r"no room for 1 × policy \(8 GPU each\) and 1 × reference"):
        counts(scorers({"GPU": 8}, None, None), [{"GPU": 6}, {"GPU": 6}])


def test_engines_share_a_gpu_only_where_they_may_and_must():
    shared = planned(scorers({"GPU": 1}, None, None, shares=True), [{"GPU": 1}], most=9)
    assert [pool.needs["GPU"] for pool in shared] == [0.5, 0.5]
    whole = planned(scorers({"GPU": 1}, None, None, shares=True), [{"GPU": 2}], most=9)
    assert [pool.needs["GPU"] for pool in whole] == [1, 1]
    assert counts(scorers({"GPU": 1}, None, None, shares=True), [{"GPU": 1}]) == [1, 1]
    assert counts(scorers({"GPU": 1}, None, None, shares=True), [{"GPU": 2}]) == [1, 1]
    with pytest.raises(ValueError, match="it has 1 node with 1 GPU"):
        counts(scorers({"GPU": 1}, None, None), [{"GPU": 1}])


def test_what_the_cluster_has_is_told_in_its_units():
    with pytest.raises(ValueError, match=r"2 nodes with 4 CPU, 1 licence, 16\.0 GiB memory"):
        counts(scorers({"licence": 1}, 1, 1), [{"CPU": 2, "memory": 2**33, "licence": 1}, {"CPU": 2, "memory": 2**33}])
