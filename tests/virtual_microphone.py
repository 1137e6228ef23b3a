"""A microphone for tests: a virtual device of ALSA's that hears a file; and a PyAudio of the tests' own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

SYSTEM = "/usr/share/alsa/alsa.conf"
RATE = 8000
PACKAGES = ("portaudio19-dev", "libportaudio2", "libjack-jackd2-0", "libasound2", "libasound2-data")


def tone(seconds: float, *, loudness: float = 0.5) -> np.ndarray:
    """A sine of 440 Hz as int16; louder than 1 is clipped."""
    wave = loudness * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)
    return (np.clip(wave, -1, 1) * 32767).astype("<i2")


def plug_in(folder: Path, devices: dict[str, np.ndarray]) -> dict[str, str]:
    """The environment in which these devices are all that there are; each begins with its samples, anew."""
    lines = [f"<{SYSTEM}>"]
    for name, samples in devices.items():
        raw = folder / f"{name}.raw"
        raw.write_bytes(samples.astype("<i2").tobytes())
        file = f'type file; slave {{ pcm {{ type null }} }} file "/dev/null"; infile "{raw}"; format raw'
        kind = f"slave {{ pcm {{ {file} }} format S16_LE; channels 1; rate {RATE} }}"
        lines.append(f'pcm.{name} {{ type plug; {kind}; hint {{ show on; description "{name}" }} }}')
    config = folder / "asound.conf"
    config.write_text("\n".join(lines) + "\n")
    return {"ALSA_CONFIG_PATH": str(config)}


def build(folder: Path) -> dict[str, str] | str:
    """PyAudio and PortAudio in a folder of their own: the environment to use them, or why they cannot be had.

    By apt, pip and the C compiler; needs no root and changes nothing outside the folder.
    """
    if shutil.which("apt-get") is None or shutil.which("gcc") is None:
        return "no apt-get or no gcc here"
    for name in ("lists/partial", "cache/archives/partial", "state", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-q", "-o", f"Dir::State={folder}/state", "-o", f"Dir::State::lists={folder}/lists"]
    apt += ["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", f"Dir::Cache={folder}/cache"]
    apt += ["-o", "APT::Sandbox::User=root"]
    system = folder / "root/usr"
    libraries = next(iter(Path("/usr/lib").glob("*-linux-gnu"))).name
    environment = {"LD_LIBRARY_PATH": str(system / "lib" / libraries)}
    flags = {"CFLAGS": f"-I{system}/include", "LDFLAGS": f"-L{system}/lib/{libraries}"}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-cache-dir"]
    steps = [[*apt, "update"], [*apt, "download", *PACKAGES]]
    for command in steps:
        if words := _failure(command, folder, {}):
            return words
    for package in sorted(folder.glob("*.deb")):
        if words := _failure(["dpkg-deb", "-x", package.name, "root"], folder, {}):
            return words
    if words := _failure([*pip, "--target", "site", "pyaudio"], folder, environment | flags):
        return words
    return environment | {"PYTHONPATH": str(folder / "site")}


def _failure(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return f"{' '.join(command[:2])}: {done.stderr.strip()[-300:]}" if done.returncode else ""
