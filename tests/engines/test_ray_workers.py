"""Workers in a Ray cluster: equal results through kills of replicas, a node and the driver; sentences for the rest.

Every replica is a process that takes seconds to start, so a test does all that it can with those that it has.
"""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.support.ray_steps import PIECES, ROOT, LengthScorer, ray_session, step

from crossward.core.records import Response
from crossward.engines.protocols import Judged
from crossward.engines.ray_cluster import Cluster
from crossward.engines.ray_workers import RayWorkers, Replicas
from crossward.engines.workers import IN_PROCESS, Step, Workers

ray = pytest.importorskip("ray")
DRIVER = """
import sys
from pathlib import Path
from crossward.engines.ray_cluster import Cluster
from crossward.engines.ray_workers import RayWorkers, Replicas
from tests.support.ray_steps import PIECES, step
workers = RayWorkers(Cluster(address=sys.argv[1]), replicas={"policy": Replicas(count=2)})
with workers.crew([step("policy", seconds=0.3, noted=Path(sys.argv[2]))]) as crew:
    for piece, value in crew.stream(PIECES * 8):
        print(piece.index, value, flush=True)
"""
STRANGER = """
import os
import grpc
from crossward.engines.ray_cluster import Cluster, connect
connect(Cluster(), print)
import ray
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
    ask = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel).GetAllNodeInfo
    for word in ("", "Bearer ", "Bearer " + 64 * "0", "Bearer " + os.environ["RAY_AUTH_TOKEN"]):
        try:
            told = ask(gcs_service_pb2.GetAllNodeInfoRequest(), metadata=(("authorization", word),), timeout=30)
            print("nodes:", len(told.node_info_list))
        except grpc.RpcError as error:
            print(error.code().name)
"""


@pytest.fixture(scope="module")
def local() -> Iterator[None]:
    with ray_session():
        yield


def workers(*, restarts: int = 1, count: int = 1) -> RayWorkers:
    few = Replicas(count=count, cpus=0.1)
    return RayWorkers(Cluster(restarts=restarts), replicas={"policy": few, "reference": few})


def made(by: Workers, steps: list[Step]) -> tuple[dict[int, int], Counter[int]]:
    """What becomes of each piece, and how often each was counted."""
    counted: Counter[int] = Counter()
    with by.crew(steps) as crew:
        found = list(crew.stream(PIECES, advance_of=lambda piece: lambda n: counted.update({piece.index: n})))
    assert len({piece.index for piece, _ in found}) == len(found), "no piece comes twice"
    return {piece.index: value for piece, value in found}, counted


def test_what_a_later_step_has_no_room_for_is_refused_before_the_first_begins(local, tmp_path):
    ray.shutdown()
    few, many = Replicas(cpus=0.1), Replicas(count=500, cpus=1000)
    greedy = RayWorkers(
        Cluster(),
        replicas={"policy": few, "reference": few, "judge": many},
        together=[("policy", "reference"), ("judge",)],
    )
    with pytest.raises(ValueError, match=r"no room for 500 × judge \(1000 CPU each\): it has 1 node with"):
        made(greedy, [step("policy", noted=tmp_path / "noted")])
    assert not (tmp_path / "noted").exists()


def test_a_killed_replica_changes_nothing_and_the_terminal_stays_quiet(local, tmp_path, capfd):
    steps = [step("policy", 1), step("reference", 10, how="killed once", noted=tmp_path / "noted")]
    expected, _ = made(IN_PROCESS, [step("policy", 1), step("reference", 10)])
    found, counted = made(workers(count=2), steps)
    assert found == expected == {index: 11 * (index + 1) for index in range(8)}
    assert counted == dict.fromkeys(range(8), 6)
    assert (tmp_path / "noted.killed").exists()
    assert len((tmp_path / "noted").read_text().split("open")) - 1 == 3, "the one that was killed was opened again"
    assert capfd.readouterr() == ("", "")
    _wait_until_gone(tmp_path / "noted")


def test_a_piece_is_handed_over_before_the_next_one_is_done(local, tmp_path):
    """The driver writes it: a kill loses what is in work, and not what was done."""
    with workers().crew([step("policy", how="waits", noted=tmp_path / "noted")]) as crew:
        came = crew.stream([PIECES[0], PIECES[3]])
        assert next(came)[0].index == 0
        (tmp_path / "noted.go").touch()
        assert [piece.index for piece, _ in came] == [3]


def test_what_a_step_raises_is_raised_here(local):
    for how, kind, said in (
        ("bad", ValueError, "row 3 of it cannot be read"),
        ("missing", FileNotFoundError, "/nowhere/at/all"),
        ("bug", RuntimeError, r"the policy failed at piece 3 of es; there:\n(.|\n)*KeyError: 'a bug'"),
    ):
        with pytest.raises(kind, match=said):
            made(workers(), [step("policy", how=how)])
    with pytest.raises(ValueError, match="model folder somewhere does not exist"):
        made(workers(), [step("policy"), step("reference", opening="no model")])


def test_what_kills_its_process_again_and_again_is_told(local):
    with pytest.raises(ValueError, match="piece 3 of es killed the process of the policy 2 times"):
        made(workers(restarts=1), [step("policy", how="poison")])
    with pytest.raises(ValueError, match="the policy cannot be opened on the cluster: its process was killed 1 times"):
        made(workers(restarts=0), [step("policy", opening="killed")])


def test_a_scorer_by_itself_answers_counts_its_work_and_comes_back(local, tmp_path):
    scorer = workers().scorer(partial(LengthScorer, tmp_path / "killed"))
    responses = (Response(text="one"), Response(text="three"))
    seen: list[int] = []
    for instruction in ("say", "kill", "say"):
        (found,) = scorer.score([Judged(instruction=instruction, responses=responses)], advance=seen.append)
        assert [each and each.logprob for each in found] == [-3.0, -5.0]
    assert seen == [2, 2, 2]
    assert scorer.work.unique_tokens == 6
    ((one, _),) = scorer.score([Judged(instruction="say", responses=responses)], per_token=True)
    assert one is not None
    assert one.token_logprobs == (0.5,)
    with pytest.raises(ValueError, match="holds token id 9"):
        scorer.score([Judged(instruction="bad", responses=responses)])
    scorer.close()
    scorer.close()


def test_what_there_is_no_room_for_is_refused_with_what_there_is(local):
    many = RayWorkers(Cluster(), replicas={"policy": Replicas(count=3, cpus=1000)})
    with pytest.raises(ValueError, match=r"no room for 3 × policy \(1000 CPU each\): it has 1 node with .* CPU"):
        made(many, [step("policy")])
    with pytest.raises(ValueError, match="the policy cannot be sent to a cluster's processes"):
        made(workers(), [Step(name="policy", open=partial(print, threading.Lock()), do=print)])


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://head:10001", "Ray Client's"),
        ("head", "is not HOST:PORT"),
        ("127.0.0.1:9", "no Ray cluster answers at cluster.address '127.0.0.1:9'"),
    ],
)
def test_an_address_that_cannot_be_joined_is_a_sentence(address, said):
    ray.shutdown()
    with pytest.raises(ValueError, match=said):
        made(RayWorkers(Cluster(address=address, start_timeout_s=0.1)), [step("policy")])


def test_waiting_for_a_cluster_is_told_on_the_terminal(capfd):
    ray.shutdown()

    def say(line: str) -> None:
        os.write(2, f"{line}\n".encode())

    waiting = RayWorkers(Cluster(address="127.0.0.1:9", start_timeout_s=0.1), say=say)
    with pytest.raises(ValueError, match="no Ray cluster answers"):
        made(waiting, [step("policy")])
    assert capfd.readouterr() == ("", "waiting up to 0 s for the Ray cluster at 127.0.0.1:9\n")


def test_a_cluster_that_is_started_here_sends_strangers_away():
    """Ray listens on every interface: without the run's own word nothing is told, and nothing is run."""
    fresh = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER], capture_output=True, text=True, cwd=ROOT, env=fresh, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == [*["UNAUTHENTICATED"] * 3, "nodes: 1", ""]


def test_a_dead_node_and_a_dead_driver_leave_equal_results_and_no_replica(tmp_path):
    from ray.cluster_utils import Cluster as Nodes

    ray.shutdown()
    small = {"object_store_memory": 80 * 2**20}
    with ray_session():
        nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
        try:
            doomed = [nodes.add_node(num_cpus=1, **small) for _ in range(2)][1]
            _kill_a_driver(nodes.address, tmp_path / "first")
            said: list[str] = []
            two = RayWorkers(
                Cluster(address=nodes.address, shared=tmp_path / "shared"),
                replicas={"policy": Replicas(count=2)},
                together=[("policy",)],
                say=said.append,
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("crossward.__version__", "9.9")
                with pytest.raises(ValueError, match=r"node .* has crossward \d.*, the driver 9\.9: install the same"):
                    made(two, [step("policy")])
            found: dict[int, int] = {}
            with two.crew([step("policy", seconds=0.3, noted=tmp_path / "second")]) as crew:
                for piece, value in crew.stream(PIECES):
                    found[piece.index] = value
                    if len(found) == 4:
                        nodes.remove_node(doomed, allow_graceful=False)
            assert found == made(IN_PROCESS, [step("policy")])[0]
            assert not (tmp_path / "shared").exists()
            assert (tmp_path / "second").read_text().count("open") >= 2
            assert not said
            assert made(two, [step("policy")])[0] == found
            assert said == ["the cluster has lost nodes: work goes on with 1 × policy"]
        finally:
            ray.shutdown()
            nodes.shutdown()


def _kill_a_driver(address: str, noted: Path) -> None:
    """A driver in a process of its own, killed when pieces have come: its replicas end, the cluster does not."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, address, str(noted)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert driver.stdout is not None
    assert [driver.stdout.readline() for _ in range(3)][-1]
    driver.kill()
    driver.wait()
    _wait_until_gone(noted)
    done = noted.read_text()
    time.sleep(1)
    assert noted.read_text() == done


def _wait_until_gone(noted: Path) -> None:
    """What replicas held is free soon after the stream is over: the next stage's want it."""
    replicas = [int(line.split()[1]) for line in noted.read_text().splitlines() if line.startswith("open")]
    deadline = time.monotonic() + 60
    while any(map(_is_there, replicas)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert replicas
    assert not any(map(_is_there, replicas))


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/status").read_text().count("State:\tZ") == 0
