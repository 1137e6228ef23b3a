"""A microphone → a recording's bytes, as a file would have them: 16-bit PCM WAV, by PyAudio and PortAudio."""

import array
import io
import os
import queue
import sys
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmpipe.errors import MmpipeError, NotFoundError, UsageError

if TYPE_CHECKING:
    import pyaudio

FULL_SCALE = 32_768
PATIENCE_S = 5.0
"""Without any sound from the device."""
_BLOCK_S = 0.05
_LIBRARIES = "apt-get install portaudio19-dev && pip install 'mmpipe[mic]'"
Watch = Callable[[float, float], object]
"""Told (seconds recorded, peak of the last moment, full scale being 1)."""


@dataclass(frozen=True)
class Device:
    """One that records: PortAudio's number, its name, its own sample rate in Hz, how many channels it has."""

    number: int
    name: str
    sample_rate: int
    channels: int


@dataclass(frozen=True)
class Recording:
    """`wav`: the bytes. `gaps`: how often the machine was too slow and sound was lost."""

    wav: bytes
    device: Device
    gaps: int


def record(
    duration_s: float,
    *,
    device: str | None = None,
    begin: Callable[[Device], object] = lambda _: None,
    watch: Watch = lambda *_: None,
) -> Recording:
    """Record one channel for so many seconds, at the device's own sample rate.

    `device`: its name, a part of it that no other has, or its number; None = the system's default. `begin` is
    told the device just before. Raises NotFoundError `library-missing` or `microphone-missing`, UsageError
    for a part of several names, MmpipeError `microphone-failed`.
    """
    library = _library()
    with _port(library) as port:
        found = _chosen(_devices(port), device, port)
        begin(found)
        samples, gaps = _heard(library, port, found, round(duration_s * found.sample_rate), watch)
    return Recording(_wav(samples, found.sample_rate), found, gaps)


def _library() -> Any:
    try:
        import pyaudio
    except ModuleNotFoundError:
        what = "a microphone needs PyAudio, which is built with PortAudio's header"
        raise NotFoundError("library-missing", what, fix=_LIBRARIES) from None
    except ImportError as error:  # PyAudio is there, what it is linked to is not
        what = f"PyAudio finds no PortAudio ({error})"
        raise NotFoundError("library-missing", what, fix="apt-get install libportaudio2") from None
    return pyaudio


@contextmanager
def _port(library: Any) -> Iterator["pyaudio.PyAudio"]:
    with _hushed():
        port = library.PyAudio()
    try:
        yield port
    finally:
        with _hushed():
            port.terminate()


def _devices(port: "pyaudio.PyAudio") -> list[Device]:
    infos = [port.get_device_info_by_index(number) for number in range(port.get_device_count())]
    return [
        Device(int(one["index"]), str(one["name"]), round(one["defaultSampleRate"]), one["maxInputChannels"])
        for one in infos
        if one["maxInputChannels"] > 0
    ]


def _chosen(devices: list[Device], wanted: str | None, port: "pyaudio.PyAudio") -> Device:
    listed = ", ".join(f"{one.number} {one.name!r}" for one in devices)
    if not devices:
        fix = "plug one in, or look at the system's sound settings and at what this user may open"
        raise NotFoundError("microphone-missing", "no device here records sound", fix=fix)
    if wanted is None:
        try:
            number = port.get_default_input_device_info()["index"]
        except OSError:
            what = f"the system has no default; there are: {listed}"
            raise NotFoundError("microphone-missing", what) from None
        return next(one for one in devices if one.number == number)
    exact = [one for one in devices if wanted in (one.name, str(one.number))]
    alike = exact or [one for one in devices if wanted.lower() in one.name.lower()]
    if not alike:
        raise NotFoundError("microphone-missing", f"none is called {wanted!r}; there are: {listed}")
    if len(alike) > 1 and not exact:
        names = ", ".join(f"{one.number} {one.name!r}" for one in alike)
        raise UsageError("usage", f"--device {wanted!r} is a part of several names: {names}")
    return alike[0]


def _heard(
    library: Any, port: "pyaudio.PyAudio", device: Device, frames: int, watch: Watch
) -> tuple["array.array[int]", int]:
    """So many samples, little-endian int16, and the number of gaps. PortAudio's thread brings them."""
    heard: queue.Queue[tuple[bytes, bool]] = queue.Queue()

    def take(data: bytes, _frames: int, _times: Any, flags: int) -> tuple[None, int]:
        heard.put((data, bool(flags & library.paInputOverflow)))
        return None, library.paContinue

    samples, gaps = array.array("h"), 0
    with _streaming(library, port, device, take):
        while len(samples) < frames:
            try:
                data, gap = heard.get(timeout=PATIENCE_S)
            except queue.Empty:
                what = f"{device.name!r} gave no sound for {PATIENCE_S:g} s"
                raise MmpipeError("microphone-failed", what) from None
            block = array.array("h", data)
            samples.extend(block)
            gaps += int(gap and len(samples) > len(block))  # before the first block nothing was wanted
            watch(min(len(samples), frames) / device.sample_rate, max(map(abs, block)) / FULL_SCALE)
    return samples[:frames], gaps


@contextmanager
def _streaming(library: Any, port: "pyaudio.PyAudio", device: Device, take: Any) -> Iterator[None]:
    """One channel of int16 from the device while the context lasts."""
    try:
        with _hushed():
            stream = port.open(
                rate=device.sample_rate,
                channels=1,
                format=library.paInt16,
                input=True,
                input_device_index=device.number,
                frames_per_buffer=max(1, round(_BLOCK_S * device.sample_rate)),
                stream_callback=take,
            )
    except OSError as error:
        words = error.args[1] if len(error.args) > 1 else error
        what = f"{device.name!r} cannot be opened: {words}"
        raise MmpipeError("microphone-failed", what) from None
    try:
        yield
    finally:
        with _hushed():
            stream.close()


def _wav(samples: "array.array[int]", sample_rate: int) -> bytes:
    if sys.byteorder == "big":
        samples.byteswap()
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(sample_rate)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


@contextmanager
def _hushed() -> Iterator[None]:
    """ALSA and JACK write what they looked for and did not find straight to file descriptor 2."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
