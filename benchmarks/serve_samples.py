"""Bodies of requests, good ones and hostile ones, as files that a client process reads."""

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import soundfile

WORDS = (
    "a red bicycle",
    "two frogs on a leaf",
    "the town hall at night",
    "a loaf of bread",
    "somebody sings",
)
BOUNDARY = b"benchmark"


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
