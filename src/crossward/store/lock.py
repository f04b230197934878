"""One driver per run directory: two at once would overwrite each other's shards.

The lock is the kernel's (flock): it goes when its process ends, however it ends. The file's text only names the holder.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from crossward.store.run_dir import RunDir


@contextmanager
def run_lock(run: RunDir) -> Iterator[None]:
    """Hold the run directory (made if missing) while the block runs. Raises ValueError naming the process that has it.

    The lock file stays: removing it would let two processes lock two files of one name.
    """
    run.require_folder()
    run.root.mkdir(parents=True, exist_ok=True)
    with run.lock.open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise ValueError(
                f"run directory {run.root} is in use by process {holder}: "
                "wait until it ends, or use another run directory"
            ) from None
        try:
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            yield
        finally:
            handle.truncate(0)
            fcntl.flock(handle, fcntl.LOCK_UN)


def holder_of(run: RunDir) -> str | None:
    """The process that drives a run now, as it named itself; None where there is none.

    A run that ended well leaves an empty file and one that was killed leaves its number, so only the latter's lock is
    tried: whoever begins at that instant is not kept out by the question, but for the moment that it takes.
    """
    try:
        with run.lock.open("r", encoding="utf-8", errors="replace") as handle:
            if not (holder := handle.read(64).strip()):
                return None
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return holder
            fcntl.flock(handle, fcntl.LOCK_UN)
    except OSError:
        return None
    return None
