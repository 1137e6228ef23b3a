"""`mmpipe predict TABLE` by the number of rows: time and memory, which is not to grow with them.

    python benchmarks/predict.py                        # text alone: 10,000 and 100,000 rows, the tests' tiny model
    python benchmarks/predict.py --rows 1000000 --formats parquet

Texts are all different, about 100 characters each. Parquet has them in one row group.
"""  # noqa: E501

import argparse
import json
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from bundles import tiny_model
from processes import measure

WORDS = ("a low one", "high and thin", "spoken words", "a long sentence about nothing at all", "two")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="the folder of a bundle; else the tests' tiny one")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--formats", nargs="+", default=["csv", "jsonl", "parquet"])
    options = parser.parse_args()
    print("| table | rows | MB | wall s | CPU s | rows/s | MB, the command's process | MB, all processes |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        model = (options.model or tiny_model(Path(scratch, "tiny"))).resolve()
        for ending in options.formats:
            for rows in options.rows:
                table = Path(scratch, f"{rows}.{ending}")
                write(table, rows)
                print_row(table, rows, model)
                table.unlink()


def write(path: Path, rows: int) -> None:
    """A table of so many ids and texts."""
    cells = ({"id": f"row {n}", "text": f"{n} " + WORDS[n % 5] + f" {n}, and so on" * 4} for n in range(rows))
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(cells)), path)
        return
    with path.open("w") as file:
        if path.suffix == ".csv":
            file.write("id,text\n")
        for row in cells:
            line = json.dumps(row) if path.suffix == ".jsonl" else f'{row["id"]},"{row["text"]}"'
            file.write(f"{line}\n")


def print_row(table: Path, rows: int, model: Path) -> None:
    """One run of the command, into a table of the same format."""
    out = table.with_name(f"out{table.suffix}")
    code = "from mmpipe.cli import run; run()"
    command = [sys.executable, "-c", code, "predict", str(table), "-o", str(out), "--model", str(model)]
    found, printed = measure(command, table.parent, {})
    assert printed.startswith(f"{rows} rows = {rows} predicted"), printed
    wall, cpu = found["wall_s"], found["cpu_s"]
    sizes = f"{table.stat().st_size / 1e6:.1f} | {wall:.0f} | {cpu:.0f} | {rows / wall:.0f}"
    memory = f"{found['first_mb']:.0f} | {found['peak_mb']:.0f}"
    print(f"| {table.suffix} | {rows:,} | {sizes} | {memory} |", flush=True)
    out.unlink()


if __name__ == "__main__":
    main()
