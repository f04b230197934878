"""Workers in a Ray cluster: a stage's steps as one Ray Data pipeline over pools of our own engines, a piece a block.

Each replica holds one engine; pieces flow from pool to pool, so that a reference scores what the policy has scored
while the policy scores the next. Only the driver sees results: it alone writes. What was in work on a node that died is
done again by another replica. Ray keeps its own logs in its session folder and says nothing on the terminal.
"""

import gc
import logging
import os
import pickle
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from crossward.core.records import ResponseLogprob
from crossward.core.replicas import Pool, planned, planned_at_most, told_pools
from crossward.engines import ray_cluster
from crossward.engines.held_signals import signals_held
from crossward.engines.protocols import Advance, Judged, Scorer, Work, no_progress
from crossward.engines.ray_cluster import Cluster
from crossward.engines.ray_replica import Failure, Record, Replica, ScorerReplica, Surroundings, error_of
from crossward.engines.ray_watch import head_watched, idleness_told
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

    `together` names the steps that are at work at the same time, for each such set that will be. `variables` are set
    where an engine is opened, before it reads the environment. `say` tells of waiting.
    """

    here = False

    def __init__(
        self,
        cluster: Cluster,
        *,
        replicas: Mapping[str, Replicas] | None = None,
        together: Sequence[Sequence[str]] = (),
        variables: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.cluster = cluster
        self._replicas = replicas or {}
        self._together = together
        self._variables = variables or {}
        self.say = say

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
        """Connect where nobody has, and say what replicas are to know.

        What the cluster has no room for in a later stage is refused when it is joined: see `together`.
        """
        node, joined = ray_cluster.connect(self.cluster, self.say)
        if joined:
            for names in self._together:
                self._require_room(names)
        return Surroundings(folder=os.getcwd(), variables=self._variables, node=node, restarts=self.cluster.restarts)

    @contextmanager
    def failures_told(self) -> Iterator[None]:
        """Within the block: what Ray itself raises, and a head that is gone, is a sentence for who runs the cluster."""
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

        with head_watched(ray_cluster.head(), self.say):
            try:
                yield
            except RayError as error:
                raise ValueError(
                    f"the Ray cluster failed: {ray_cluster.first_line(error)}; run the same command again to continue; "
                    f"{ray_cluster.where_logs_are()}"
                ) from error

    def pools(self, steps: Sequence[Step], *, most: int) -> list[Pool]:
        """What each step gets of the cluster as it is now; waits for nodes that are to come."""

        def plan(nodes: Sequence[Mapping[str, float]]) -> list[Pool]:
            asked = self._asked([step.name for step in steps], nodes)
            try:
                return planned(asked, nodes, most=most)
            except ValueError:
                if not ray_cluster.has_lost_nodes():
                    raise
                fewer = planned_at_most(asked, nodes, most=most)
                self.say(f"the cluster has lost nodes: work goes on with {told_pools(fewer)}")
                return fewer

        return ray_cluster.when_there(plan, self.cluster, self.say)

    def _require_room(self, names: Sequence[str]) -> None:
        """All that was named of these steps, or one of each, fits at once; waits for nodes that are to come."""

        def plan(nodes: Sequence[Mapping[str, float]]) -> list[Pool]:
            asked = [replace(pool, replicas=pool.replicas or 1) for pool in self._asked(names, nodes)]
            return planned(asked, nodes, most=max(pool.replicas or 1 for pool in asked))

        ray_cluster.when_there(plan, self.cluster, self.say)

    def _asked(self, names: Sequence[str], nodes: Sequence[Mapping[str, float]]) -> list[Pool]:
        on_gpus = any(node.get("GPU") for node in nodes)
        return [self._replicas.get(name, Replicas()).pool(name, on_gpus=on_gpus) for name in names]


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
        waiting = dict(enumerate(pieces))
        with (
            self._workers.failures_told(),
            ray_cluster.beside_driver(Record) as record,
            idleness_told(record, self._workers.cluster.start_timeout_s, self._workers.say),
        ):
            pools = self._workers.pools(self._steps, most=len(pieces))
            with closing(_rows(_pipeline(self._steps, pools, pieces, around, record), len(pieces))) as rows:
                for row in rows:
                    if row["failure"]:
                        raise error_of(pickle.loads(row["failure"]))
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
        around = self._workers.around()  # before Ray is imported: it looks for its word then
        import ray  # pyright: ignore[reportMissingImports]
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

        try:
            actor = self._opened(around)
            with head_watched(ray_cluster.head(), self._workers.say):
                found = ray.get(actor.score.remote(groups, per_token))
        except RayError as error:
            said, logs = ray_cluster.first_line(error), ray_cluster.where_logs_are()
            raise ValueError(
                f"the {self._step.name} could not score on the cluster: {said}: its process died again and again (out "
                f"of memory?); {logs}"
            ) from error
        if isinstance(found, Failure):
            raise error_of(found)
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

    def _opened(self, around: Surroundings) -> Any:
        if self._actor is None:
            import ray  # pyright: ignore[reportMissingImports]

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


def _rows(stream: Any, n: int) -> Generator[Any, None, None]:
    """The `n` rows as they come; closed, it ends the replicas, so that the next ones find room.

    A Ctrl-C that comes while Ray cleans up is kept: in its `__del__` it would be dropped, and the run would go on.
    """
    # Nothing fetched ahead: the one that came would wait for the next, unwritten, for as long as that one computes.
    blocks = stream.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    rows = (row for block in blocks for row in block.to_pylist())
    came = 0
    try:
        for row in islice(rows, n):
            came += 1
            yield row
    finally:
        with signals_held():
            assert came < n or next(rows, None) is None, f"more than {n} rows came"
            rows.close()
            del rows, blocks, stream
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
