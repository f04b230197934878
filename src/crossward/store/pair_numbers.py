"""The margins and lengths of a language's pairs, read from its table without the rest: no record is made of a row.

For questions that go over all pairs of a run. Knows no stages.
"""

from array import array
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crossward.store.parquet_files import damaged

_COLUMNS = ["outcome", "chosen_score", "rejected_score", "chosen.text", "rejected.text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairNumbers:
    """Of every pair, in order: chosen less rejected score, and the characters of both responses."""

    margins: array
    chosen_chars: array
    rejected_chars: array


def read_pair_numbers(path: Path) -> PairNumbers:
    """A batch of rows in memory at a time. Raises ValueError for a missing, damaged or foreign file."""
    found = PairNumbers(margins=array("d"), chosen_chars=array("q"), rejected_chars=array("q"))
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(columns=_COLUMNS):
                for row in batch.to_pylist():
                    if row["outcome"] == "pair":
                        found.margins.append(row["chosen_score"] - row["rejected_score"])
                        found.chosen_chars.append(len(row["chosen"]["text"]))
                        found.rejected_chars.append(len(row["rejected"]["text"]))
    except FileNotFoundError:
        raise ValueError(f"shard {path} does not exist: run again, only that shard is redone") from None
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise ValueError(damaged(path, (str(error).splitlines() or [type(error).__name__])[0])) from None
    return found
