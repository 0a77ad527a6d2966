"""Start-up seconds and memory of task readers: `python benchmarks/data.py --json`.

Each row is a fresh process that imports the libraries, then reads the tasks, shuffles them and
takes the first batch. `start_s` is that time without the imports, and `rss_mb` the memory of the
process beyond what the imports need, with the pages of memory-mapped files. `cpu_s` is the
processor time of `start_s`: on a loaded machine it says more than `start_s`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COUNTS = (1_000, 100_000, 1_000_000)
SOURCES = ("jsonl", "parquet")
BATCH_SIZE = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--measure", nargs=2, metavar=("SOURCE", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [row_of(source, count, Path(folder)) for count in args.counts for source in SOURCES]
    if args.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


def row_of(source: str, count: int, folder: Path) -> dict[str, Any]:
    path = folder / f"{count}.{source}"
    write(source, count, path)
    command = [sys.executable, __file__, "--measure", source, str(path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "hub")}
    ended = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return {"source": source, "tasks": count, **json.loads(ended.stdout.splitlines()[-1])}


def write(source: str, count: int, path: Path) -> None:
    columns = {
        "question": [f"What is {i} + {i * 7 % 1000}? Give the number only." for i in range(count)],
        "answer": [str(i + i * 7 % 1000) for i in range(count)],
        "level": [i % 5 for i in range(count)],
    }
    if source == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table(columns), path)
        return
    with path.open("w") as lines:
        for values in zip(*columns.values(), strict=True):
            lines.write(json.dumps(dict(zip(columns, values, strict=True))) + "\n")


def measure(source: str, path: str) -> dict[str, Any]:
    from ajet.config.sections.task_reader import TaskReaderConfig
    from ajet.task_reader.read_tasks import make_task_reader, training_tasks
    from ajet.task_reader.task_batches import TaskBatches

    if source == "jsonl":
        config = {"jsonl_dataset_file": {"training": {"file_path": path}, "query_key": "question"}}
    else:
        import datasets

        datasets.load_dataset  # noqa: B018  the import is not what is measured
        config = {"type": "huggingface_dat_repo", "huggingface_dat_repo": {"dataset_path": path}}
    before = rss_mb()
    start, cpu = time.perf_counter(), time.process_time()
    reader = make_task_reader(TaskReaderConfig.model_validate(config))
    batches = TaskBatches(training_tasks(reader), seed=0)
    batches.next_batch(BATCH_SIZE)
    start_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    used = rss_mb() - before
    start = time.perf_counter()
    taken = min(len(batches.tasks), 10_000)
    batches.next_batch(taken)
    return {
        "start_s": round(start_s, 3),
        "cpu_s": round(cpu_s, 3),
        "rss_mb": round(used, 1),
        "tasks_per_s": round(taken / (time.perf_counter() - start)),
    }


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
