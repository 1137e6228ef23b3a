"""Recordings: exact samples, lengths checked against headers, a coded refusal for everything else."""

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpipe.errors import SampleError
from mmpipe.media import audio

RATE = 8_000


def sine(seconds=0.5, rate=RATE, channels=1):
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def encoded(samples, kind="WAV", subtype="PCM_16", rate=RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def code(data, **options):
    for look in (audio.inspect, audio.decode):
        with pytest.raises(SampleError) as raised:
            look(data, **options)
    return raised.value.code, raised.value.what


FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("MP3", None),
]


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_formats_decode_to_the_same_wave(kind, subtype):
    samples, rate = audio.decode(encoded(sine(), kind, subtype))
    assert rate == RATE and samples.dtype == np.float32 and samples.shape == (4_000,)
    tolerance = 0.1 if kind in ("OGG", "MP3") else 1e-4
    assert np.abs(samples - sine()[:, 0]).max() < tolerance


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_inspect_agrees_with_decode(kind, subtype):
    data = encoded(sine(channels=2), kind, subtype)
    facts = audio.inspect(data)
    samples, rate = audio.decode(data)
    assert (facts.duration_s, facts.sample_rate, facts.channels) == (len(samples) / rate, rate, 2)
    assert facts.peak == pytest.approx(np.abs(samples).max()) and facts.warnings == []


def test_channels_are_averaged():
    stereo = sine(channels=2) * np.array([1.0, 0.0], np.float32)
    assert np.abs(audio.decode(encoded(stereo))[0] - sine()[:, 0] / 2).max() < 1e-4


def test_loud_vorbis_does_not_wrap_around():
    loud = np.clip(np.random.default_rng(0).normal(0, 1, 16_000), -1, 1)
    samples, _ = audio.decode(encoded(loud, "OGG", "VORBIS"))
    reference, _ = soundfile.read(io.BytesIO(encoded(loud, "OGG", "VORBIS")), dtype="float32")
    np.testing.assert_array_equal(samples, reference)
    assert np.abs(samples).max() > 1


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("OGG", "VORBIS"), ("MP3", None)])
def test_truncated_recording_is_refused_or_accepted_on_request(kind, subtype):
    data = encoded(sine(4.0), kind, subtype)
    cut = data[: len(data) * 6 // 10]
    found, what = code(cut)
    assert found == "audio-truncated" and "ends early" in what
    if kind != "OGG":  # the whole page is lost there
        assert len(audio.decode(cut, allow_truncated=True)[0]) > RATE


def test_truncated_flac_is_damaged():
    data = encoded(sine(4.0), "FLAC")
    assert code(data[: len(data) // 2])[0] == "audio-damaged"


def test_streamed_wav_has_its_real_length():
    data = encoded(sine())
    at = data.index(b"data")
    streamed = data[:4] + b"\xff" * 4 + data[8 : at + 4] + b"\xff" * 4 + data[at + 8 :]
    assert audio.inspect(streamed).duration_s == 0.5


def test_flac_that_lies_is_refused_before_allocation():
    data = bytearray(encoded(sine(), "FLAC"))
    packed = int.from_bytes(data[18:26], "big") | ((1 << 36) - 1)
    data[18:26] = packed.to_bytes(8, "big")
    assert code(bytes(data))[0] == "audio-too-long"
    assert len(audio.decode(bytes(data), keep_s=0.25)[0]) == RATE // 4


def test_long_silence_is_over_the_limit_or_cut():
    data = encoded(np.zeros(RATE * 700), "FLAC")
    found, what = code(data)
    assert found == "audio-too-long" and "700.0 s" in what
    samples, _ = audio.decode(data, keep_s=2.0)
    assert samples.shape == (2 * RATE,)
    assert audio.inspect(data, max_duration_s=800).warnings == ["audio: silence"]


def test_not_a_number_is_refused_and_clipping_is_flagged():
    wave = sine()
    wave[100] = np.nan
    assert code(encoded(wave, subtype="FLOAT"))[0] == "audio-not-finite"
    clipped = np.clip(sine() * 10, -1, 1)
    assert "clipped" in audio.inspect(encoded(clipped)).warnings[0]


@pytest.mark.parametrize("rate", [0, 7, 768_000])
def test_sample_rates_out_of_range(rate):
    data = bytearray(encoded(sine()))
    data[24:28] = struct.pack("<I", rate)
    assert code(bytes(data))[0] == "audio-bad-header"


def test_nine_channels():
    assert code(encoded(sine(channels=9)))[0] == "audio-bad-header"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"ID3\x03\0\0\0\0\0\x0a" + bytes(10), "audio-damaged"),
        (b"<html></html>", "audio-format"),
        (b"\x89PNG\r\n\x1a\n", "audio-format"),
        (b"FORM\0\0\0\0AIFF", "audio-format"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio-damaged"),
        (encoded(np.zeros(0)), "audio-damaged"),
    ],
)
def test_what_is_no_recording(data, expected):
    assert code(data)[0] == expected


SEEDS = [encoded(sine(0.1), kind, subtype) for kind, subtype in FORMATS if kind != "MP3"]


@settings(max_examples=100, deadline=None)
@given(
    data=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
)
def test_any_bytes_give_samples_or_a_code(data, edits):
    changed = bytearray(data)
    for place, value in edits:
        changed[place % len(changed)] = value
    for look in (audio.inspect, audio.decode):
        try:
            assert look(bytes(changed), max_duration_s=10)
        except SampleError as error:
            assert error.code.startswith("audio-")
