"""Splits Countdown-Tasks-3to4 (`target`, `nums`) into tasks for training and validation.

    python -m tutorial.example_countdown.prepare_data train.parquet data/countdown

All tasks with the same numbers, in any order, go to one split.
"""

import argparse
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tutorial.example_countdown.countdown import question

VALIDATION_SHARE = 0.1


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet or JSONL file."""
    if path.suffix == ".jsonl":
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(columns=["target", "nums"]):
        yield from batch.to_pylist()


def is_validation(numbers: Iterable[int]) -> bool:
    """The split of these numbers."""
    return zlib.crc32(repr(sorted(numbers)).encode()) % 1000 < 1000 * VALIDATION_SHARE


def main() -> None:
    """Write `train.jsonl` and `validation.jsonl` into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("source", type=Path, help="Parquet or JSONL file with target and nums")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=10_240, help="tasks for training at most")
    parser.add_argument("--validation", type=int, default=1_024, help="held-out tasks at most")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    left = {"train": args.train, "validation": args.validation}
    with (
        (args.folder / "train.jsonl").open("w", encoding="utf-8") as train,
        (args.folder / "validation.jsonl").open("w", encoding="utf-8") as validation,
    ):
        files = {"train": train, "validation": validation}
        for row in rows_of(args.source):
            numbers, target = [int(number) for number in row["nums"]], int(row["target"])
            split = "validation" if is_validation(numbers) else "train"
            if left[split]:
                left[split] -= 1
                query = question(numbers, target)
                task = {"main_query": query, "target": target, "nums": numbers}
                files[split].write(json.dumps(task) + "\n")


if __name__ == "__main__":
    main()
