"""How many replicas of each engine a cluster has room for, and whether what was asked for fits at all.

Plain arithmetic over what its nodes have. Where a replica runs in the end is the cluster's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

Amounts = Mapping[str, float]  # of a resource by its name: CPU, GPU, memory (bytes), or one of the cluster's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Replicas of one engine: how many (None: as many as there is room for), and what each takes of its node.

    `shares` lets several engines share a GPU where there are fewer GPUs than engines.
    """

    name: str
    needs: Amounts
    replicas: int | None = None
    shares: bool = False


def planned(pools: Sequence[Pool], nodes: Sequence[Amounts], *, most: int) -> list[Pool]:
    """The pools with their numbers of replicas, at most `most` each; None of them is None any more.

    Room is dealt out in turns, so that engines that wait for one another get equal shares.

    Raises ValueError, saying what the cluster has, where what was asked for, or one replica of each, has no room.

    >>> pools = [Pool(name="policy", needs={"GPU": 1}), Pool(name="reference", needs={"GPU": 1})]
    >>> [pool.replicas for pool in planned(pools, [{"GPU": 8, "CPU": 64}], most=100)]
    [4, 4]
    >>> [pool.needs["GPU"] for pool in planned([replace(p, shares=True) for p in pools], [{"GPU": 1}], most=100)]
    [0.5, 0.5]
    """
    counts = [min(pool.replicas or 1, most) for pool in pools]
    if not _fits(pools, counts, nodes):
        halved = [_shared(pool, len(pools)) for pool in pools]
        if halved == list(pools) or not _fits(halved, counts, nodes):
            raise ValueError(
                f"the cluster has no room for {_told_pools(pools, counts)}: it has {told_nodes(nodes)}; ask for fewer "
                "replicas or less for each (cluster.replicas, cluster.resources), or start more nodes"
            )
        pools = halved
    growing = [place for place, pool in enumerate(pools) if pool.replicas is None and any(pool.needs.values())]
    while growing:
        for place in list(growing):
            more = [count + (place == other) for other, count in enumerate(counts)]
            if more[place] <= most and _fits(pools, more, nodes):
                counts = more
            else:
                growing.remove(place)
    return [replace(pool, replicas=count) for pool, count in zip(pools, counts, strict=True)]


def planned_at_most(pools: Sequence[Pool], nodes: Sequence[Amounts], *, most: int) -> list[Pool]:
    """As `planned`, with fewer replicas than were asked for where there is no room for all.

    >>> pools = [Pool(name=name, needs={"CPU": 1}, replicas=n) for name, n in (("policy", 2), ("reference", 5))]
    >>> [pool.replicas for pool in planned_at_most(pools, [{"CPU": 4}], most=100)]
    [2, 2]
    """
    found = planned([replace(pool, replicas=None) for pool in pools], nodes, most=most)
    return [
        replace(pool, replicas=min(pool.replicas or 1, asked.replicas or most))
        for pool, asked in zip(found, pools, strict=True)
    ]


def told_pools(pools: Sequence[Pool]) -> str:
    """How many replicas of which engines, in words."""
    return " and ".join(f"{pool.replicas} × {pool.name}" for pool in pools)


def told_nodes(nodes: Sequence[Amounts]) -> str:
    """What a cluster has, in words."""
    total: dict[str, float] = {}
    for node in nodes:
        for name, amount in node.items():
            total[name] = total.get(name, 0.0) + amount
    count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    return f"{count} with {_told(total) or 'nothing'}"


def _shared(pool: Pool, parts: int) -> Pool:
    """The pool with a share of a GPU for each replica, where it may and takes a whole one."""
    if pool.shares and pool.needs.get("GPU") == 1:
        return replace(pool, needs={**pool.needs, "GPU": 1 / parts})
    return pool


def _fits(pools: Sequence[Pool], counts: Sequence[int], nodes: Sequence[Amounts]) -> bool:
    """Whether so many replicas can stand on the nodes: the greatest are placed first, each on the first with room."""
    free = [dict(node) for node in nodes]
    replicas = [pool.needs for pool, count in zip(pools, counts, strict=True) for _ in range(count)]
    for needs in sorted(replicas, key=lambda needs: (-needs.get("GPU", 0.0), -needs.get("CPU", 0.0))):
        for node in free:
            if all(node.get(name, 0.0) >= amount - 1e-6 for name, amount in needs.items()):
                for name, amount in needs.items():
                    if amount:
                        node[name] -= amount
                break
        else:
            return False
    return True


def _told_pools(pools: Sequence[Pool], counts: Sequence[int]) -> str:
    return " and ".join(
        f"{count} × {pool.name} ({_told(pool.needs) or 'nothing'} each)"
        for pool, count in zip(pools, counts, strict=True)
    )


def _told(amounts: Amounts) -> str:
    return ", ".join(
        f"{amount / 2**30:.1f} GiB memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in sorted(amounts.items())
        if amount
    )
