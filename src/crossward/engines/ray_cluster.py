"""Joining a Ray cluster, or starting one on this machine, and looking whether it can do what is asked of it.

A cluster that was started here ends with this process; one that was joined stays up. Every node must have the driver's
versions and see its files. Knows no steps.
"""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from crossward.core.replicas import told_nodes
from crossward.engines.ray_replica import Look, look_around

INSTALL = "Ray is not installed: pip install 'crossward[ray]'"
PAUSE_S = 1.0  # between two looks at a cluster whose nodes are still to come
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Which cluster: `address` None starts one on this machine, "auto" joins the one that this machine is a node of.

    `shared` names a file that may be written where all nodes must see it. What was killed is done again `restarts`
    times. Nodes and an address that are not there are waited for `start_timeout_s`.
    """

    address: str | None = None
    shared: Path | None = None
    restarts: int = 3
    start_timeout_s: float = 300.0


def require_ray() -> None:
    """Raise ValueError where Ray is not installed."""
    import importlib.util

    found = importlib.util.find_spec("ray")  # not of ray.data, for which ray itself would be imported
    if found is None or not any(Path(place, "data").is_dir() for place in found.submodule_search_locations or ()):
        raise ValueError(INSTALL)


def draw_word(cluster: Cluster) -> None:
    """Whoever does not know a word drawn here is sent away by the cluster that this process starts.

    Ray listens on every interface. It looks for the word when it is imported, and only then: where that was before, or
    where the environment says something of its own, nothing is changed.
    """
    if cluster.address is None and "ray" not in sys.modules and not os.environ.get("RAY_AUTH_MODE"):
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def connect(cluster: Cluster, say: Callable[[str], None]) -> tuple[str, bool]:
    """Join or start the cluster, once a process; returns this node's address, and whether that was now.

    Raises ValueError where it cannot be reached in time, or a node of it cannot do the driver's work.
    """
    require_ray()
    draw_word(cluster)
    import ray  # pyright: ignore[reportMissingImports]

    joins = not ray.is_initialized()
    if joins:
        if cluster.address is None:
            _start(cluster.start_timeout_s)
        else:
            _join(cluster.address, cluster.start_timeout_s, say)
            _require_alike(cluster)
    return ray.util.get_node_ip_address(), joins


def when_there(
    plan: Callable[[Sequence[Mapping[str, float]]], Found], cluster: Cluster, say: Callable[[str], None]
) -> Found:
    """plan(what each node has); where it raises ValueError, again as nodes come, until the time is over."""
    deadline = time.monotonic() + (0.0 if cluster.address is None else cluster.start_timeout_s)
    told = False
    while True:
        try:
            return plan(nodes())
        except ValueError as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                say(f"waiting up to {cluster.start_timeout_s:.0f} s for more nodes: {error}")
                told = True
        time.sleep(PAUSE_S)


def nodes() -> list[Mapping[str, float]]:
    """What the nodes have that are alive: CPU, GPU, memory in bytes, and resources of their own."""
    import ray  # pyright: ignore[reportMissingImports]

    return [
        {name: amount for name, amount in node["Resources"].items() if not name.startswith(("node:", "object_store"))}
        for node in ray.nodes()
        if node["Alive"]
    ]


def has_lost_nodes() -> bool:
    """Whether a node that was there is not any more."""
    import ray  # pyright: ignore[reportMissingImports]

    return not all(node["Alive"] for node in ray.nodes())


def head() -> str:
    """HOST:PORT of the process that knows all others."""
    import ray  # pyright: ignore[reportMissingImports]

    return ray.get_runtime_context().gcs_address


def told_free() -> str:
    """What nobody holds of what the cluster has, in words."""
    import ray  # pyright: ignore[reportMissingImports]

    free = {name: amount for name, amount in ray.available_resources().items() if name in ("CPU", "GPU")}
    return f"the cluster is {told_nodes(nodes())}, free are {told_nodes([free]).removeprefix('1 node with ')}"


@contextmanager
def beside_driver(kind: type, *arguments: Any) -> Iterator[Any]:
    """An actor of this class on the driver's own node, which is there as long as the block."""
    import ray  # pyright: ignore[reportMissingImports]
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # pyright: ignore[reportMissingImports]

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote: Any = ray.remote(kind)
    actor = remote.options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here).remote(
        *arguments
    )
    try:
        yield actor
    finally:
        end(actor)


def end(actor: Any) -> None:
    """End an actor; one that is gone already, or whose cluster is, is no error."""
    import ray  # pyright: ignore[reportMissingImports]
    from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

    with suppress(RayError, RuntimeError, ValueError):
        ray.kill(actor)


def where_logs_are() -> str:
    """Where Ray's own logs are, in words."""
    import ray  # pyright: ignore[reportMissingImports]

    with suppress(Exception):
        return f"Ray's logs are in {ray._private.worker._global_node.get_logs_dir_path()}"  # pyright: ignore
    return "Ray's logs are in its session folder, /tmp/ray/session_latest/logs"


@contextmanager
def _quietly() -> Iterator[None]:
    """Nothing of Ray's on the terminal, and what a signal does stays as it was.

    Ray has its own ways to be silent for all but what its C++ core says in this process, and what nodes tell of their
    deaths: on stdout, whatever log_to_driver says.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # its workers step back for others: here they are the work
    if not os.environ.get("CROSSWARD_TRACEBACK"):
        import ray._private.worker as worker  # pyright: ignore[reportMissingImports]

        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        worker._worker_logs_enabled = False
    sys.stderr.flush()
    mine = threading.current_thread() is threading.main_thread()
    before, terminal = signal.getsignal(signal.SIGTERM), os.dup(2)
    try:
        if not os.environ.get("CROSSWARD_TRACEBACK"):
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        if mine:
            signal.signal(signal.SIGTERM, before)


def _start(timeout_s: float) -> None:
    """Start a cluster on this machine. Ray gives its processes 30 s, which are too few where a machine is busy."""
    import ray  # pyright: ignore[reportMissingImports]

    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with _quietly():
                ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
            return
        except Exception as error:  # Ray raises plain ones
            ray.shutdown()
            if time.monotonic() >= deadline:
                raise ValueError(
                    f"Ray does not start on this machine within {timeout_s:.0f} s ({first_line(error)}): is it too "
                    "busy, or its memory too small? Ray's logs are in /tmp/ray/session_latest/logs"
                ) from error
        time.sleep(PAUSE_S)


def _join(address: str, timeout_s: float, say: Callable[[str], None]) -> None:
    import ray  # pyright: ignore[reportMissingImports]

    if address.startswith("ray://"):
        raise ValueError(
            f"cluster.address {address!r} is Ray Client's, which Ray Data does not work through: run the command on a "
            "node of the cluster with the address auto, or give HOST:PORT of its head"
        )
    if address != "auto" and _host_and_port(address) is None:
        raise ValueError(f"cluster.address {address!r} is not HOST:PORT of a Ray head (ray start --head), or auto")
    deadline, told = time.monotonic() + timeout_s, False
    while True:
        try:
            if place := _host_and_port(_noted() if address == "auto" else address):
                socket.create_connection(place, timeout=5.0).close()  # Ray itself would wait for minutes
            with _quietly():
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            return
        except (OSError, ValueError) as error:
            if time.monotonic() >= deadline:
                raise ValueError(
                    f"no Ray cluster answers at cluster.address {address!r} within {timeout_s:.0f} s "
                    f"({first_line(error)}): is its head up (ray start --head), and this machine one of its nodes "
                    "(ray start --address HOST:PORT)?"
                ) from None
            if not told:
                say(f"waiting up to {timeout_s:.0f} s for the Ray cluster at {address}")
                told = True
        except RuntimeError as error:
            ray.shutdown()
            raise ValueError(
                f"the Ray cluster at {address!r} cannot be joined: {' '.join(str(error).split())}"
            ) from None
        time.sleep(PAUSE_S)


def _host_and_port(address: str) -> tuple[str, int] | None:
    host, _, port = address.rpartition(":")
    return (host, int(port)) if host and port.isdecimal() else None


def _noted() -> str:
    """Where the cluster of this machine is, as Ray notes it for "auto"; empty where it notes none."""
    noted = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    with suppress(OSError):
        return os.environ.get("RAY_ADDRESS") or noted.read_text(encoding="utf-8").strip()
    return ""


def _require_alike(cluster: Cluster) -> None:
    """Every node that can work has the driver's versions and sees its files. Raises ValueError that names one."""
    import ray  # pyright: ignore[reportMissingImports]
    from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # pyright: ignore[reportMissingImports]

    from crossward import __version__

    word = secrets.token_hex(16)
    shared = "" if cluster.shared is None else str(cluster.shared.absolute())
    if cluster.shared is not None:
        cluster.shared.parent.mkdir(parents=True, exist_ok=True)
        cluster.shared.write_text(word, encoding="utf-8")
    try:
        remote: Any = ray.remote(look_around)
        asked = {
            node["NodeManagerAddress"]: remote.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(os.getcwd(), shared, word)
            for node in ray.nodes()
            if node["Alive"] and (node["Resources"].get("CPU") or node["Resources"].get("GPU"))
        }
        python = ".".join(map(str, sys.version_info[:3]))
        for address, reference in asked.items():
            try:
                look: Look = ray.get(reference, timeout=cluster.start_timeout_s)
            except RayError as error:
                raise ValueError(
                    f"node {address} of the cluster cannot run crossward: {_cause(error)}: install the same version "
                    f"there (pip install 'crossward[ray]=={__version__}')"
                ) from None
            for name, theirs, ours in (
                ("Python", look.python, python),
                ("ray", look.ray, ray.__version__),
                ("crossward", look.crossward, __version__),
            ):
                if theirs != ours:
                    raise ValueError(
                        f"node {address} of the cluster has {name} {theirs}, the driver {ours}: install the same"
                    )
            if look.problem:
                raise ValueError(
                    f"node {address} of the cluster cannot work on this run: {look.problem}; run folder and models "
                    "must be on a file system that all nodes mount under the same path"
                )
    except ValueError:
        ray.shutdown()
        raise
    finally:
        if cluster.shared is not None:
            cluster.shared.unlink(missing_ok=True)


def _cause(error: Exception) -> str:
    """What went wrong at the far end, one line: the last of its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def first_line(error: Exception) -> str:
    """The first line of what an error says; its class where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
