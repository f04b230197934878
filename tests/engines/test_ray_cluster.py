"""What is looked at before a cluster is given work, and what is said of it; no cluster is started."""

import errno
from pathlib import Path

import pytest

from crossward.engines import ray_cluster, ray_replica
from crossward.engines.ray_cluster import Cluster, when_there
from crossward.engines.ray_replica import Record, Surroundings, error_of, failure_of, look_around

pytest.importorskip("ray")
AROUND = Surroundings(folder=".", variables={}, node="10.0.0.1", restarts=1)


def two_of(nodes):
    if len(nodes) < 2:
        raise ValueError("no room for 2")
    return len(nodes)


def test_nodes_that_are_to_come_are_waited_for_and_told_once(monkeypatch: pytest.MonkeyPatch):
    seen: list[dict[str, float]] = []
    monkeypatch.setattr(ray_cluster, "PAUSE_S", 0.0)
    monkeypatch.setattr(ray_cluster, "nodes", lambda: [seen.append({"CPU": 1.0}), *seen][3:])
    said: list[str] = []
    assert when_there(two_of, Cluster(address="auto", start_timeout_s=60), said.append) == 2
    assert said == ["waiting up to 60 s for more nodes: no room for 2"]
    seen.clear()
    with pytest.raises(ValueError, match="no room for 2"):
        when_there(two_of, Cluster(), said.append)
    assert len(seen) == len(said) == 1, "to this machine no nodes come"


def test_a_node_tells_whether_it_sees_the_drivers_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_replica, "SHOWN_S", 0.0)
    shared = tmp_path / "shared"
    shared.write_text("the word")
    here = str(tmp_path)
    assert look_around(here, "", "the word").problem == ""
    assert look_around(here, str(shared), "the word").problem == ""
    other = f"it does not see the driver's files in {tmp_path}"
    assert look_around(here, str(shared), "another word").problem == other
    assert look_around(here, str(tmp_path / "none"), "the word").problem == other
    assert look_around(f"{here}/none", str(shared), "the word").problem == f"it has no folder {here}/none"


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (UnicodeError("row 3 is no text"), ValueError, r"^row 3 is no text \(policy, node 10\.0\.0\.7\)$"),
        (FileNotFoundError(errno.ENOENT, "none", "a-file"), FileNotFoundError, "none: 'a-file'"),
        (KeyError("a bug"), RuntimeError, r"the policy failed at piece 3 of es \(policy, node 10\.0\.0\.7\); there:\n"),
    ],
)
def test_what_another_node_raises_names_it(raised, kind, said, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_replica, "_node", lambda: "10.0.0.7")
    with pytest.raises(kind, match=said):
        raise error_of(failure_of(raised, step="policy", piece="piece 3 of es", around=AROUND))
    monkeypatch.setattr(ray_replica, "_node", lambda: AROUND.node)
    assert failure_of(raised, step="policy", piece="", around=AROUND).node == ""


def test_the_record_counts_what_was_begun_and_never_ended():
    record = Record()
    assert record.idle() == 0
    assert (record.begin("policy", "piece 1"), record.begin("policy", "piece 1")) == (0, 1)
    assert record.begin("reference", "piece 1") == 0, "another step's"
    assert record.idle() is None
    for step in ("policy", "policy", "reference"):
        record.end(step, "piece 1")
    assert record.idle() == 6
    assert [record.opening("policy", "a"), record.opening("policy", "a"), record.opening("policy", "b")] == [0, 1, 0]
    record.opened("policy", "a")
    assert record.idle() is None, "b is being opened"
    assert record.opening("policy", "a") == 0, "an opening that went well begins anew"
