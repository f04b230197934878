"""Workers in a Ray cluster: a stage's steps as one Ray Data pipeline over pools of our own engines, a piece a block.

Each replica holds one engine; pieces flow from pool to pool, so that a reference scores what the policy has scored
while the policy scores the next. Only the driver sees results: it alone writes. What was in work on a node that died is
done again by another replica. Ray keeps its own logs in its session folder and says nothing on the terminal.
"""

import gc
import logging
import os
import pickle
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from crossward.core.records import ResponseLogprob
from crossward.core.replicas import Pool, planned
from crossward.engines import ray_cluster
from crossward.engines.protocols import Advance, Judged, Scorer, Work, no_progress
from crossward.engines.ray_cluster import Cluster
from crossward.engines.ray_replica import Failure, Record, Replica, ScorerReplica, Surroundings
from crossward.engines.workers import AdvanceOf, Crew, Piece, Step

# Blocks that one pipeline is given: each costs the driver some milliseconds. More pieces than this go in several.
MOST_BLOCKS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """The replicas of one step: how many (None: as many as there is room for), and what each takes of its node.

    `gpus` None: 1 where the cluster has GPUs, which several steps share where it has fewer than steps; else 0.
    """

    count: int | None = None
    cpus: float = 1.0
    gpus: float | None = None
    memory_gib: float | None = None
    custom: Mapping[str, float] = field(default_factory=dict)

    def pool(self, name: str, *, on_gpus: bool) -> Pool:
        """As the planning of replicas takes it; `on_gpus`: the cluster has some."""
        gpus = (1.0 if on_gpus else 0.0) if self.gpus is None else self.gpus
        needs = {"CPU": self.cpus, "GPU": gpus, **self.custom}
        if self.memory_gib is not None:
            needs["memory"] = self.memory_gib * 2**30
        return Pool(name=name, needs=needs, replicas=self.count, shares=self.gpus is None)


class RayWorkers:
    """`Workers` of a cluster. `replicas` by the steps' names; a step without is given as many as there is room for.

    `variables` are set where an engine is opened, before it reads the environment. `say` tells of waiting.
    """

    here = False

    def __init__(
        self,
        cluster: Cluster,
        *,
        replicas: Mapping[str, Replicas] | None = None,
        variables: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._cluster = cluster
        self._replicas = replicas or {}
        self._variables = variables or {}
        self._say = say

    @contextmanager
    def crew(self, steps: Sequence[Step]) -> Iterator[Crew]:
        """Replicas are started when the first piece comes and end with the last; nothing of them is left behind."""
        crew = RayCrew(steps, self)
        try:
            yield crew
        finally:
            crew.close()

    def scorer(self, open: Callable[[], Scorer]) -> Scorer:
        """A replica by itself, beside another one: scorers come in pairs."""
        step = Step(name="scorer", open=open, do=_not_asked)
        return RayScorer([step, step], 0, self)

    def around(self) -> Surroundings:
        """Connect where nobody has, and say what replicas are to know."""
        node = ray_cluster.connect(self._cluster, self._say)
        return Surroundings(folder=os.getcwd(), variables=self._variables, node=node, restarts=self._cluster.restarts)

    @contextmanager
    def watching(self, record: Any) -> Iterator[None]:
        """Tell, within the block, when nothing could begin for a long time: others hold what the cluster has."""
        import ray  # pyright: ignore[reportMissingImports]

        over, pause_s = threading.Event(), self._cluster.start_timeout_s

        def watch() -> None:
            before = None
            while not over.wait(pause_s):
                with suppress(Exception):  # the cluster may end beside this
                    idle = ray.get(record.idle.remote(), timeout=pause_s)
                    if idle is not None and idle == before:
                        self._say(f"no replica has begun anything for {pause_s:.0f} s: {ray_cluster.told_free()}")
                    before = idle

        watcher = threading.Thread(target=watch, name="crossward-cluster", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()

    def pools(self, steps: Sequence[Step], *, most: int) -> list[Pool]:
        """What each step gets of the cluster as it is now; waits for nodes that are to come."""

        def plan(nodes: Sequence[Mapping[str, float]]) -> list[Pool]:
            on_gpus = any(node.get("GPU") for node in nodes)
            asked = [self._replicas.get(step.name, Replicas()).pool(step.name, on_gpus=on_gpus) for step in steps]
            return planned(asked, nodes, most=most)

        return ray_cluster.when_there(plan, self._cluster, self._say)


class RayCrew:
    """A `Crew` in the cluster."""

    def __init__(self, steps: Sequence[Step], workers: RayWorkers) -> None:
        self._steps = steps
        self._workers = workers
        self._scorers: list[RayScorer] = []

    def stream(
        self, pieces: Iterable[Piece], *, advance_of: AdvanceOf = lambda piece: no_progress
    ) -> Iterator[tuple[Piece, Any]]:
        """Every piece with what its last step made of it, as they come. A step's ValueError or OSError is raised."""
        left = list(pieces)
        for start in range(0, len(left), MOST_BLOCKS):
            yield from self._streamed(left[start : start + MOST_BLOCKS], advance_of)

    def scorer(self, place: int) -> "RayScorer":
        """A replica of one step by itself, started with its first question."""
        self._scorers.append(RayScorer(self._steps, place, self._workers))
        return self._scorers[-1]

    def close(self) -> None:
        """End what `scorer` gave."""
        for scorer in self._scorers:
            scorer.close()

    def _streamed(self, pieces: Sequence[Piece], advance_of: AdvanceOf) -> Iterator[tuple[Piece, Any]]:
        around = self._workers.around()
        pools = self._workers.pools(self._steps, most=len(pieces))
        waiting = dict(enumerate(pieces))
        with (
            ray_cluster.beside_driver(Record) as record,
            self._workers.watching(record),
            closing(_rows(_pipeline(self._steps, pools, pieces, around, record))) as rows,
        ):
            for row in rows:
                if row["failure"]:
                    raise _error(pickle.loads(row["failure"]))
                piece = waiting.pop(row["place"])  # KeyError: one piece came twice
                advance_of(piece)(piece.n * len(self._steps))
                yield piece, pickle.loads(row["value"])
        assert not waiting, f"{len(waiting)} pieces never came, the first of them {waiting[min(waiting)]}"


class RayScorer:
    """protocols.Scorer over one replica of the step at `place`, which leaves room for one of each of the others.

    It is started with the first question, and again when it dies.
    """

    def __init__(self, steps: Sequence[Step], place: int, workers: RayWorkers) -> None:
        self.work = Work()
        self._steps, self._place = steps, place
        self._step = steps[place]
        self._workers = workers
        self._actor: Any = None

    def score(
        self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress
    ) -> list[tuple[ResponseLogprob | None, ...]]:
        """As the scorer of the step does."""
        import ray  # pyright: ignore[reportMissingImports]
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

        try:
            found = ray.get(self._opened().score.remote(groups, per_token))
        except RayError as error:
            said, logs = ray_cluster.first_line(error), ray_cluster.where_logs_are()
            raise ValueError(
                f"the {self._step.name} could not score on the cluster: {said}: its process died again and again (out "
                f"of memory?); {logs}"
            ) from error
        if isinstance(found, Failure):
            raise _error(found)
        values, done = found
        self.work.unique_tokens += done.unique_tokens
        self.work.processed_tokens += done.processed_tokens
        self.work.seconds += done.seconds
        advance(sum(len(group.responses) for group in groups))
        return values

    def close(self) -> None:
        """End the replica: what it held is free."""
        if self._actor is not None:
            ray_cluster.end(self._actor)
            self._actor = None

    def _opened(self) -> Any:
        if self._actor is None:
            import ray  # pyright: ignore[reportMissingImports]

            around = self._workers.around()
            pool = self._workers.pools(self._steps, most=1)[self._place]
            again = {"max_restarts": around.restarts, "max_task_retries": around.restarts}
            remote: Any = ray.remote(ScorerReplica)
            self._actor = remote.options(**_options(pool), **again).remote(_pickled(self._step), around)
        return self._actor


def _pipeline(
    steps: Sequence[Step], pools: Sequence[Pool], pieces: Sequence[Piece], around: Surroundings, record: Any
) -> Any:
    """A Ray Data set of the pieces, a block each, with a pool of replicas for every step; nothing is begun yet."""
    import ray.data  # pyright: ignore[reportMissingImports]
    from ray.data import ActorPoolStrategy  # pyright: ignore[reportMissingImports]

    rows = [
        {"place": place, "piece": pickle.dumps(piece), "value": pickle.dumps(None), "failure": b""}
        for place, piece in enumerate(pieces)
    ]
    with _settled():
        stream: Any = ray.data.from_items(rows, override_num_blocks=len(rows))
        for step, pool in zip(steps, pools, strict=True):
            assert pool.replicas is not None
            stream = stream.map(
                Replica,
                fn_constructor_args=(_pickled(step), around, record),
                # One piece at a time: a piece that waited behind another would wait for that one's replica alone, and
                # be taken for what killed it. The least size is 1 so that at the end a replica that has nothing to do
                # makes room for one whose node died, with the piece that it had in work.
                compute=ActorPoolStrategy(
                    min_size=1, max_size=pool.replicas, initial_size=pool.replicas, max_tasks_in_flight_per_actor=1
                ),
                **_options(pool),
            )
        return stream


@contextmanager
def _settled() -> Iterator[None]:
    """Ray Data as a pipeline of ours needs it; for data sets made elsewhere all stays as it was."""
    from ray.data import DataContext  # pyright: ignore[reportMissingImports]

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    before = DataContext.get_current()
    ours = before.copy()
    ours.enable_progress_bars = False
    ours.execution_options.preserve_order = False
    ours.op_resource_reservation_enabled = False  # a pool is as large as it was planned
    ours.autoscaling_config.actor_pool_util_downscaling_threshold = -1.0  # an engine that waits stays open
    DataContext._set_current(ours)
    try:
        yield
    finally:
        DataContext._set_current(before)


def _rows(stream: Any) -> Generator[Any, None, None]:
    """The rows as they come; closed, it ends the replicas, so that the next ones find room.

    What Ray itself raises in the place of a row is a sentence with where more is said.
    """
    from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

    try:
        # Nothing fetched ahead: the one that came would wait for the next, unwritten, for as long as that one computes.
        for rows in stream.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from rows.to_pylist()
    except RayError as error:
        said, logs = ray_cluster.first_line(error), ray_cluster.where_logs_are()
        raise RuntimeError(f"the cluster failed: {said}; {logs}") from error
    finally:
        del stream
        gc.collect()  # replicas end with the last of their handles, some of which hang in cycles


def _options(pool: Pool) -> dict[str, Any]:
    custom = {name: amount for name, amount in pool.needs.items() if name not in ("CPU", "GPU", "memory") and amount}
    options: dict[str, Any] = {"num_cpus": pool.needs.get("CPU", 0.0), "num_gpus": pool.needs.get("GPU", 0.0)}
    if custom:
        options["resources"] = custom
    if memory := pool.needs.get("memory"):
        options["memory"] = int(memory)
    return options


def _not_asked(engine: Any, piece: Piece, value: Any, advance: Advance) -> None:
    raise AssertionError("a scorer by itself is given no pieces")


def _pickled(step: Step) -> bytes:
    from ray import cloudpickle  # pyright: ignore[reportMissingImports]

    with suppress(TypeError, AttributeError, pickle.PicklingError):
        return cloudpickle.dumps(step)
    raise ValueError(
        f"the {step.name} cannot be sent to a cluster's processes: it holds something that cannot be pickled (an open "
        "file, a lock, a connection); open it within its opener, or leave out the section cluster"
    )


def _error(failure: Failure) -> Exception:
    """What a step raised, to be raised here: for the user as it was, else with the traceback from there."""
    where = f" ({failure.step}, node {failure.node})" if failure.node else ""
    match failure.error:
        case ValueError() as error:
            return ValueError(f"{error}{where}")
        case None:
            return RuntimeError(
                f"the {failure.step} failed{f' at {failure.piece}' if failure.piece else ''}{where}; there:\n"
                f"{failure.told}"
            )
        case error:
            return error
