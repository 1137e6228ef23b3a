"""`mmpipe serve` against a plain handler of the same model; hostile uploads; a model that moves under load.

Everything runs on 127.0.0.1: a server process, and a client process that keeps so many connections busy.

    python benchmarks/serve.py --model models/fusion
    python benchmarks/serve.py                          # the tests' tiny model, untrained
"""

import argparse
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from bundles import another_bundle, tiny_model
from serve_client import ask, finished, start_client
from serve_samples import good_samples, hostile_samples, write_samples
from serve_servers import our_server, plain_server

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> None:
    """All three tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="the folder of a bundle; else the tests' tiny one")
    parser.add_argument("--requests", type=int, default=1000, help="in each cell of the first table")
    parser.add_argument("--hostile", type=int, default=10_000, help="requests of the second table")
    parser.add_argument("--moves", type=int, default=5, help="times that the model moves in the third")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model or tiny_model(Path(scratch, "tiny"))
        print_rates(model, options.requests, Path(scratch))
        print_hostile(model, options.hostile, Path(scratch))
        print_moves(model, options.moves, Path(scratch))


def print_rates(model: Path, requests: int, scratch: Path) -> None:
    """Table 1: requests a second, CPU time of all processes, latencies; by number of clients."""
    write_samples(scratch / "good", good_samples())
    print("| server | threads | clients | requests/s | CPU ms a request | p50 ms | p99 ms | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for clients in (1, 8, 32):
        for threads, environment in (("default", {}), ("1", ONE_THREAD)):
            for name, start in (("plain handler", plain_server), ("mmpipe serve", our_server)):
                with start(model, environment) as server:
                    ask(server, scratch, "good", clients=clients, requests=100)
                    count = requests // 2 if clients == 1 else requests
                    before = server.cpu_s()
                    found = ask(server, scratch, "good", clients=clients, requests=count)
                    cpu = f"{1000 * (server.cpu_s() - before) / count:.1f}"
                p50, p99 = (f"{1000 * found[key]:.1f}" for key in ("p50", "p99"))
                rate = f"{found['requests'] / found['seconds']:.0f}"
                failed = found["requests"] - found["statuses"].get("200", 0)
                print(
                    f"| {name} | {threads} | {clients} | {rate} | {cpu} | {p50} | {p99} | {failed} |",
                    flush=True,
                )
    print()


def print_hostile(model: Path, requests: int, scratch: Path) -> None:
    """Table 2: one of twenty uploads is hostile, and four times a decoding process is killed."""
    good = good_samples()
    write_samples(scratch / "mixed", good * 19 + hostile_samples())
    print("| after requests | RSS of all processes, MB | answers by status |\n|---|---|---|")
    with our_server(model, {}) as server:
        ask(server, scratch, "good", clients=16, requests=500)
        print(f"| 500 good ones | {server.memory_mb():.0f} | |", flush=True)
        answers: Counter[str] = Counter()
        wrong = 0
        for part in range(4):
            client = start_client(server, scratch, "mixed", clients=16, requests=requests // 4, seed=part)
            time.sleep(2)
            os.kill(server.decoders()[0], signal.SIGKILL)
            found = finished(client)
            answers.update(found["statuses"])
            wrong += found["wrong"]
            said = ", ".join(f"{count} × {status}" for status, count in sorted(answers.items()))
            print(f"| {(part + 1) * requests // 4:,} | {server.memory_mb():.0f} | {said} |", flush=True)
        refusals = re.findall(r'^mmpipe_refusals_total\{code="(.+)"\} (\d+)', server.get("metrics"), re.M)
        print(
            f"\nStill {json.loads(server.get('healthz'))['status']}. Samples with two different labels:",
            wrong,
        )
        print("Refused:", ", ".join(f"{count} {code}" for code, count in sorted(refusals)), end="\n\n")


def print_moves(model: Path, moves: int, scratch: Path) -> None:
    """Table 3: the folder's bundle is replaced again and again under load."""
    place, other = scratch / "moving" / "fusion", scratch / "other"
    shutil.copytree(model, place)
    another_bundle(model, other)
    with our_server(place, {}) as server:
        client = start_client(server, scratch, "good", clients=16, requests=0, seconds=4 * moves + 4)
        for move in range(moves):
            time.sleep(3.5)
            fresh = place.with_name("fresh")
            shutil.copytree((other, model)[move % 2], fresh)
            place.rename(place.with_name(f"old{move}"))
            fresh.rename(place)
        found = finished(client)
        reloads = re.findall(r'^mmpipe_reloads_total\{result="(.+)"\} (\d+)', server.get("metrics"), re.M)
    failed = found["requests"] - found["statuses"].get("200", 0)
    print("| requests | took over | failed requests | p99 ms |\n|---|---|---|---|")
    print(f"| {found['requests']:,} | {dict(reloads).get('ok', 0)} | {failed} | {1000 * found['p99']:.1f} |")


if __name__ == "__main__":
    main()
