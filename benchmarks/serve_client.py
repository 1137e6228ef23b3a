"""A client process that keeps so many connections busy, and what it found: `python serve_client.py PLAN`."""

import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from serve_samples import BOUNDARY
from serve_servers import Server


def ask(server: Server, scratch: Path, samples: str, **wanted: int) -> dict[str, object]:
    """Let a client process ask; what it found."""
    return finished(start_client(server, scratch, samples, **wanted))


def start_client(server: Server, scratch: Path, samples: str, **wanted: int) -> subprocess.Popen[str]:
    plan = scratch / "plan.json"
    plan.write_text(json.dumps({"port": server.port, "samples": str(scratch / samples), "seed": 0, **wanted}))
    command = [sys.executable, __file__, str(plan)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(client: "subprocess.Popen[str]") -> dict[str, object]:
    out, _ = client.communicate()
    assert client.returncode == 0
    return json.loads(out)


async def load_server(plan: dict[str, object]) -> dict[str, object]:
    """Keep `clients` connections busy with samples in a random order; statuses and latencies."""
    bodies = [(path.suffix, path.read_bytes()) for path in sorted(Path(str(plan["samples"])).iterdir())]
    rng = random.Random(plan["seed"])
    order = [rng.randrange(len(bodies)) for _ in range(plan["requests"] or 1_000_000)]
    until = time.monotonic() + plan.get("seconds", 1e9)
    statuses: Counter[str] = Counter()
    times: list[float] = []
    labels: dict[int, set[str]] = {}

    async def client() -> None:
        connection = None
        while order and time.monotonic() < until:
            place = order.pop()
            began = time.monotonic()
            try:
                connection = connection or await asyncio.open_connection("127.0.0.1", plan["port"])
                status, answer = await one(connection, *bodies[place])
            except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                status, answer = "no answer", b""
            if status != "200":
                if connection is not None:
                    connection[1].close()
                connection = None
            else:
                times.append(time.monotonic() - began)
                labels.setdefault(place, set()).add(json.loads(answer)["label"])
            statuses[status] += 1

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(plan["clients"])))
    seconds = time.monotonic() - began
    cuts = statistics.quantiles(times, n=100)
    return {
        "requests": sum(statuses.values()),
        "seconds": seconds,
        "p50": cuts[49],
        "p99": cuts[98],
        "statuses": statuses,
        "wrong": sum(len(found) > 1 for found in labels.values()),
    }


async def one(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], kind: str, body: bytes
) -> tuple[str, bytes]:
    """One request on an open connection. `kind`: `.form`, `.json`, `.cut` (hang up half-way)."""
    reader, writer = connection
    media = "application/json" if kind == ".json" else f"multipart/form-data; boundary={BOUNDARY.decode()}"
    lines = (
        "POST /predict HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {media}",
        f"Content-Length: {len(body)}",
    )
    writer.write(
        "\r\n".join((*lines, "", "")).encode() + (body[: len(body) // 2] if kind == ".cut" else body)
    )
    if kind == ".cut":
        return "hung up", b""
    async with asyncio.timeout(60):
        answered = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answered, re.I)
        return answered[9:12].decode(), await reader.readexactly(int(length[1]) if length else 0)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load_server(json.loads(Path(sys.argv[1]).read_text())))))
