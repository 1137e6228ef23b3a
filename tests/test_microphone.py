"""`mmpipe predict --microphone` on virtual devices of ALSA's, which hear files; and without PyAudio."""

import io
import json
import os
import subprocess
import sys
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
import virtual_microphone
from virtual_microphone import RATE, plug_in, tone
from workspace import Workspace

ALSA = pytest.mark.skipif(not Path(virtual_microphone.SYSTEM).is_file(), reason="ALSA is not installed")
RECORD = """
import sys
from mmpipe.media import microphone
found = microphone.record(float(sys.argv[1]), device=sys.argv[2])
sys.stdout.buffer.write(found.wav)
"""


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundled")
    tiny_bundle.write(root)
    return root


@pytest.fixture(scope="module")
def installed():
    if find_spec("pyaudio") is None:
        pytest.skip("PyAudio is not installed here: `make test-slow` builds it for this")
    return {}


def record(environment, seconds, device):
    """What the device heard, as the samples and the rate of a WAV file."""
    done = subprocess.run(
        [sys.executable, "-c", RECORD, str(seconds), device],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    with wave.open(io.BytesIO(done.stdout)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


def predict(root, environment, *arguments):
    return Workspace(root, environment).run("mmpipe", "predict", *arguments, check=False)


def hears_the_file(root, scratch, environment):
    """The very samples of the file come out, and they are predicted as the file would be."""
    heard = tone(3)
    environment = environment | plug_in(scratch, {"voice": heard})
    samples, rate = record(environment, 1.5, "voice")
    with wave.open(str(scratch / "same.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    assert rate == RATE and len(samples) == round(1.5 * RATE)
    assert np.array_equal(samples, heard[: len(samples)])
    live = predict(root, environment, "--microphone", "1.5s", "--json")
    assert live.returncode == 0, live.stderr
    assert live.stderr.splitlines() == [
        "recording 1.5 s from 'voice', 8,000 Hz",
        "recorded 1.5 s, peak -6 dB",
    ]
    same = predict(root, {}, "--audio", str(scratch / "same.wav"), "--json")
    assert json.loads(live.stdout) == json.loads(same.stdout)
    assert json.loads(live.stdout)["modalities"] == ["audio"]


@ALSA
def test_a_virtual_device_is_heard(bundled, installed, tmp_path):
    hears_the_file(bundled, tmp_path, installed)


@ALSA
@pytest.mark.slow
def test_a_virtual_device_is_heard_by_a_pyaudio_of_our_own(bundled, tmp_path):
    if isinstance(environment := virtual_microphone.build(tmp_path), str):
        pytest.skip(f"PyAudio cannot be had: {environment}")
    path = os.pathsep.join(filter(None, [environment["PYTHONPATH"], os.environ.get("PYTHONPATH")]))
    hears_the_file(bundled, tmp_path, environment | {"PYTHONPATH": path})


@ALSA
def test_devices_are_chosen_by_name_part_and_number(installed, tmp_path):
    devices = {"voice": tone(1), "silent_room": tone(1, loudness=0), "silent_hall": tone(1, loudness=0)}
    environment = plug_in(tmp_path, devices)
    assert record(environment, 0.2, "voice")[0].any()
    assert not record(environment, 0.2, "ROOM")[0].any()
    assert len(record(environment, 0.2, "0")[0]) == RATE // 5


@ALSA
def test_silence_and_clipping_are_told(bundled, installed, tmp_path):
    devices = {"quiet": tone(1, loudness=0), "loud": tone(1, loudness=3)}
    environment = plug_in(tmp_path, devices)
    quiet = predict(bundled, environment, "--microphone", "500ms", "--device", "quiet")
    assert "recorded 0.5 s, peak none; audio: silence" in quiet.stderr and quiet.returncode == 0
    loud = predict(bundled, environment, "--microphone", "500ms", "--device", "loud", "--text", "one")
    assert "peak -0 dB; audio: 79% clipped" in loud.stderr and "(from audio+text)" in loud.stdout


@ALSA
def test_the_list_is_in_the_error(bundled, installed, tmp_path):
    environment = plug_in(tmp_path, {"voice": tone(1), "void": tone(1)})
    none = predict(bundled, environment, "--microphone", "1s", "--device", "webcam")
    assert none.returncode == 3 and "microphone-missing none is called 'webcam'" in none.stderr
    assert "'voice'" in none.stderr and "'void'" in none.stderr
    several = predict(bundled, environment, "--microphone", "1s", "--device", "vo")
    assert several.returncode == 2 and "a part of several names" in several.stderr


@ALSA
def test_no_device_and_one_that_cannot_be_opened(bundled, installed, tmp_path):
    environment = plug_in(tmp_path, {})
    none = predict(bundled, environment, "--microphone", "1s")
    assert none.returncode == 3 and none.stderr.startswith("microphone-missing no device here records sound")
    assert "ALSA" not in none.stderr


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("raise ModuleNotFoundError('none')", "a microphone needs PyAudio"),
        (
            "raise ImportError('libportaudio.so.2: cannot open')",
            "PyAudio finds no PortAudio (libport",
        ),
    ],
)
def test_without_its_libraries_it_says_what_to_install(bundled, tmp_path, module, words):
    (tmp_path / "pyaudio.py").write_text(module + "\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = predict(bundled, {"PYTHONPATH": path}, "--microphone", "1s")
    assert done.returncode == 3 and f"library-missing {words}" in done.stderr
    assert "apt-get install" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--microphone", "5 hours"], "as 5s, not '5 hours'"),
        (["--microphone", "0s"], "from 0.1s to 600s"),
        (["--microphone", "11min"], "from 0.1s to 600s"),
        (["--microphone", "1s", "--audio", "x.wav"], "in the place of --audio"),
        (["--text", "one", "--device", "voice"], "--device goes with it"),
        (["rows.csv", "-o", "out.csv", "--microphone", "1s"], "or a TABLE"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_recorded(tmp_path, arguments, words):
    done = predict(tmp_path, {}, *arguments)
    assert done.returncode == 2 and words in done.stderr


def test_a_model_without_sound_records_nothing(tmp_path):
    tiny_bundle.write(tmp_path, modalities=("text",))
    done = predict(tmp_path, {}, "--microphone", "1s")
    assert done.returncode == 2 and "the model takes text, and no sound" in done.stderr
