"""Which pairs each process trains on in which micro-batch, so that every step has the pairs that one process has.

A step takes the next `batch` pairs of the epoch's permutation, and its micro-batches go round the processes: the first
to process 0, the second to process 1, and so on. The last step of an epoch may be incomplete: then some micro-batches
hold fewer pairs, and a process may have none; it is given a pair that counts nothing, since all processes must compute
together. No pair is lost or taken twice. Knows no models.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import torch
from torch.utils.data import DataLoader, Dataset

NAME = "counted_pairs"  # in a collated batch: how many of its pairs count


class Place(TypedDict):
    """A row of the table, and whether it counts."""

    row: int
    counts: bool


class StepBatches:
    """The micro-batches of one process in one epoch: lists of places. `batch` = micro · accumulation · processes."""

    def __init__(self, n: int, *, micro: int, batch: int, processes: int = 1, process: int = 0, seed: int = 0) -> None:
        assert batch % (micro * processes) == 0, "refused before (accumulation)"
        self._n, self._micro, self._batch = n, micro, batch
        self._processes, self._process = processes, process
        self._seed, self._epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Every epoch has a permutation of its own."""
        self._epoch = epoch

    def __len__(self) -> int:
        """The same for every process."""
        whole, rest = divmod(self._n, self._batch)
        at_once = self._micro * self._processes
        return whole * (self._batch // at_once) + -(-rest // at_once)

    def __iter__(self) -> Iterator[list[Place]]:
        # As accelerate's SeedableRandomSampler draws it, of which one process took its pairs before.
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order = torch.randperm(self._n, generator=generator)
        at_once = self._micro * self._processes
        for step in range(0, self._n, self._batch):
            behind = min(step + self._batch, self._n)
            for first in range(step, behind, at_once):
                own = order[first + self._process * self._micro : behind][: self._micro].tolist()
                if own:
                    yield [Place(row=row, counts=True) for row in own]
                else:
                    yield [Place(row=int(order[first]), counts=False)]


class PlacedRows(Dataset[dict[str, Any]]):
    """Rows of a table by place, with `counts` beside their columns."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, place: Place) -> dict[str, Any]:
        return self._table[place["row"]] | {"counts": place["counts"]}


class StepLoader(DataLoader[dict[str, Any]]):
    """Collated micro-batches of one process; the library's Trainer tells it which epoch it is."""

    def __init__(self, table: Any, batches: StepBatches, collate: Any, *, pin_memory: bool) -> None:
        self._batches = batches

        def counting(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
            return collate(rows) | {NAME: sum(row["counts"] for row in rows)}

        super().__init__(PlacedRows(table), batch_sampler=batches, collate_fn=counting, pin_memory=pin_memory)  # pyright: ignore[reportArgumentType]

    def set_epoch(self, epoch: int) -> None:
        """Passed on to the permutation."""
        self._batches.set_epoch(epoch)
