"""`mmpipe serve` against a plain handler of the same model; hostile uploads; a model that moves under load.

Everything runs on 127.0.0.1: a server process, and a client process that keeps so many connections busy.

    python benchmarks/serve.py --model models/fusion
    python benchmarks/serve.py                          # the tests' tiny model, untrained
"""

import argparse
import asyncio
import io
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import soundfile

REPOSITORY = Path(__file__).resolve().parents[1]
WORDS = (
    "a red bicycle",
    "two frogs on a leaf",
    "the town hall at night",
    "a loaf of bread",
    "somebody sings",
)
BOUNDARY = b"benchmark"
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
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--client", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        serve_plainly(options.plain)
        return
    if options.client:
        print(json.dumps(asyncio.run(load_server(json.loads(options.client.read_text())))))
        return
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


class Server:
    """A process that printed its URL."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
        self.process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r":(\d+)/", self.process.stdout.readline())
        assert found, "the server did not start"
        self.port = int(found[1])

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30) as response:
            return str(response.read().decode())

    def family(self) -> list[int]:
        """The process and all below it."""
        parents = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = entry.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.parent.name)] = int(words[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def decoders(self) -> list[int]:
        """Those that were forked by the fork server."""
        return sorted(self.family()[1:])[2:]

    def cpu_s(self) -> float:
        """Of all processes that there are."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.family()]
        return sum(int(words[11]) + int(words[12]) for words in stats) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        time.sleep(0.5)
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.family()]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def our_server(model: Path, environment: dict[str, str]) -> Server:
    """As people start it."""
    run = "from mmpipe.cli import run; run()"
    command = [sys.executable, "-c", run, "serve", "--port", "0", "--model", str(model)]
    return Server(command, environment)


def plain_server(model: Path, environment: dict[str, str]) -> Server:
    """This file again, as the handler that a tutorial would write."""
    return Server([sys.executable, __file__, "--plain", str(model)], environment)


def serve_plainly(model: Path) -> None:
    """One request, one prediction, in a thread of the framework's pool."""
    import uvicorn
    from fastapi import FastAPI, File, Form, UploadFile

    from mmpipe.predict import load
    from mmpipe.serve.server import listen, url_of

    app, predictor = FastAPI(), load(model)

    @app.post("/predict")
    def predict(
        image: UploadFile | None = File(None),  # noqa: B008
        text: str | None = Form(None),
        audio: UploadFile | None = File(None),  # noqa: B008
    ) -> dict[str, object]:
        files = {name: part.file.read() for name, part in (("image", image), ("audio", audio)) if part}
        return vars(predictor.predict(text=text, **files))

    listener = listen("127.0.0.1", 0)
    print(url_of(listener), flush=True)
    config = uvicorn.Config(app, log_level="error", access_log=False, http="h11", ws="none")
    uvicorn.Server(config).run([listener])


def ask(server: Server, scratch: Path, samples: str, **wanted: int) -> dict[str, object]:
    """Let a client process ask; what it found."""
    return finished(start_client(server, scratch, samples, **wanted))


def start_client(server: Server, scratch: Path, samples: str, **wanted: int) -> subprocess.Popen[str]:
    plan = scratch / "plan.json"
    plan.write_text(json.dumps({"port": server.port, "samples": str(scratch / samples), "seed": 0, **wanted}))
    command = [sys.executable, __file__, "--client", str(plan)]
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


def form(**parts: bytes) -> bytes:
    """A multipart body."""
    found = b""
    for name, data in parts.items():
        file = b"" if name == "text" else b'; filename="f"'
        found += b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="' + name.encode() + b'"'
        found += file + b"\r\n\r\n" + data + b"\r\n"
    return found + b"--" + BOUNDARY + b"--\r\n"


def picture(rng: np.random.Generator, ending: str = ".jpg") -> bytes:
    """500 × 375 px, smooth enough to compress like a photo."""
    small = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return bytes(cv2.imencode(ending, cv2.resize(small, (500, 375), interpolation=cv2.INTER_CUBIC))[1])


def sound(rng: np.random.Generator, *, subtype: str = "PCM_16", bad: bool = False) -> bytes:
    """2 s at 16 kHz."""
    samples, out = rng.normal(0, 0.1, 32_000).clip(-1, 1), io.BytesIO()
    if bad:
        samples[1000:1100] = np.nan
    soundfile.write(out, samples, 16_000, format="WAV", subtype=subtype)
    return out.getvalue()


def good_samples() -> list[tuple[str, bytes]]:
    """Sixteen with all three modalities."""
    rng = np.random.default_rng(0)
    words = [WORDS[n % len(WORDS)].encode() for n in range(16)]
    return [(".form", form(image=picture(rng), text=text, audio=sound(rng))) for text in words]


def hostile_samples() -> list[tuple[str, bytes]]:
    """Sixteen that no honest client sends."""
    rng = np.random.default_rng(1)
    jpeg, wav, text = picture(rng), sound(rng), b"a frog"
    return [
        (".form", form(image=jpeg[: len(jpeg) // 2])),
        (".form", form(image=jpeg[:200] + bytes(rng.integers(0, 256, 20_000, dtype=np.uint8)))),
        (".form", form(image=b"<!doctype html><html><script>alert(1)</script></html>", text=text)),
        (".form", form(image=bomb(), text=text)),
        (".form", form(image=b"", text=text)),
        (".form", form(image=b"x" * 34_000_000)),
        (".form", form(audio=wav[: len(wav) // 2])),
        (".form", form(audio=sound(rng, subtype="FLOAT", bad=True))),
        (".form", form(audio=b"RIFF\xff\xff\xff\xffWAVE" + bytes(1000))),
        (".form", form(text=b"\xff\xfea\x00")),
        (".form", form(text=b"x" * 200_000)),
        (".form", form(text=text)[:-20]),
        (".form", b"no multipart at all"),
        (".json", b"[" * 1_000_000),
        (".json", b'{"text": ' * 100_000),
        (".cut", form(image=jpeg, audio=wav)),
    ]


def bomb() -> bytes:
    """A PNG that says 20,000 × 20,000 px."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (20_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    data = zlib.compress(bytes(10_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def write_samples(folder: Path, samples: list[tuple[str, bytes]]) -> None:
    """One file a body, the same for each client process."""
    folder.mkdir()
    for number, (kind, body) in enumerate(samples):
        (folder / f"{number:04}{kind}").write_bytes(body)


def tiny_model(root: Path) -> Path:
    """The untrained one that the tests use."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    import tiny_bundle

    tiny_bundle.write(root)
    return root / "models/fusion"


def another_bundle(model: Path, place: Path) -> None:
    """The same weights with other metrics: another hash."""
    from mmpipe.model.checkpoint import load_bundle, save_bundle

    bundle = load_bundle(model)
    config = {key: value for key, value in bundle.config.items() if key not in ("format", "architecture")}
    architecture, tokenizer = bundle.config["architecture"], bundle.tokenizer
    save_bundle(
        place,
        bundle.model,
        config=config,
        architecture=architecture,
        metrics={"another": 1},
        tokenizer=tokenizer,
    )


if __name__ == "__main__":
    main()
