"""Recordings: exact samples, lengths checked against headers, a coded refusal for everything else."""

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpipe.errors import SampleError
from mmpipe.media import audio, mpeg

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


def of_untold_length(flac):
    """STREAMINFO's number of samples set to 0, as by an encoder that writes to a pipe."""
    packed = int.from_bytes(flac[18:26], "big") >> 36 << 36
    return flac[:18] + packed.to_bytes(8, "big") + flac[26:]


def test_streamed_flac_has_its_real_length():
    wave = np.random.default_rng(0).normal(0, 0.1, 40 * RATE)  # more than one block
    streamed = of_untold_length(encoded(wave, "FLAC"))
    assert audio.inspect(streamed).duration_s == 40
    np.testing.assert_array_equal(audio.decode(streamed)[0], audio.decode(encoded(wave, "FLAC"))[0])
    assert len(audio.decode(streamed, keep_s=0.25, whole=False)[0]) == RATE // 4
    assert code(streamed, max_duration_s=39)[0] == "audio-too-long"
    assert code(streamed[: len(streamed) // 2])[0] == "audio-damaged"


def test_flac_that_lies_is_refused_before_allocation():
    data = bytearray(encoded(sine(), "FLAC"))
    packed = int.from_bytes(data[18:26], "big") | ((1 << 36) - 1)
    data[18:26] = packed.to_bytes(8, "big")
    assert code(bytes(data))[0] == "audio-too-long"
    assert len(audio.decode(bytes(data), keep_s=0.25, whole=False)[0]) == RATE // 4


def test_long_silence_is_over_the_limit_or_cut():
    data = encoded(np.zeros(RATE * 700), "FLAC")
    found, what = code(data)
    assert found == "audio-too-long" and "700.0 s" in what
    samples, _ = audio.decode(data, keep_s=2.0, whole=False)
    assert samples.shape == (2 * RATE,)
    assert audio.inspect(data, max_duration_s=800).warnings == ["audio: silence"]


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
@pytest.mark.parametrize("seconds", [0.2, 40.0])
def test_what_is_kept_is_the_same_whether_the_rest_is_heard_or_not(kind, subtype, seconds):
    """40 s are more than one block."""
    data = encoded(np.random.default_rng(0).normal(0, 0.1, 50 * RATE), kind, subtype)
    kept, rate = audio.decode(data, keep_s=seconds)
    assert kept.shape == (int(seconds * rate),)
    np.testing.assert_array_equal(kept, audio.decode(data, keep_s=seconds, whole=False)[0])
    np.testing.assert_array_equal(kept, audio.decode(data)[0][: len(kept)])


def test_what_is_wrong_after_the_part_that_is_kept_counts_as_for_ingest():
    wave = np.random.default_rng(0).normal(0, 0.1, 5 * RATE)
    spoilt = wave.copy()
    spoilt[-10] = np.nan
    flac = encoded(wave, "FLAC")
    for data in (encoded(spoilt, subtype="FLOAT"), flac[: len(flac) * 9 // 10], encoded(np.tile(wave, 200))):
        with pytest.raises(SampleError) as judged:
            audio.inspect(data)
        with pytest.raises(SampleError) as raised:
            audio.decode(data, keep_s=1.0)
        assert (raised.value.code, raised.value.what) == (judged.value.code, judged.value.what)
        assert len(audio.decode(data, keep_s=1.0, whole=False)[0]) == RATE


def test_not_a_number_is_refused_and_clipping_is_flagged():
    wave = sine()
    wave[100] = np.nan
    assert code(encoded(wave, subtype="FLOAT"))[0] == "audio-not-finite"
    clipped = np.clip(sine() * 10, -1, 1)
    assert "clipped" in audio.inspect(encoded(clipped)).warnings[0]


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_absurdly_large_samples_are_refused(subtype):
    found, what = code(encoded(sine(channels=2) * [0, 2e25], subtype=subtype))
    assert found == "audio-not-finite" and "1.0e+25 times full scale, 10,000 times are allowed" in what
    assert audio.inspect(encoded(sine() * 1_000, subtype=subtype)).peak == pytest.approx(500, rel=1e-3)


def quiet_then_loud(seconds=10):
    """Its frames grow where the bit rate varies, so a guess from the first ones is far off."""
    wave = np.random.default_rng(0).normal(0, 0.2, seconds * 44_100).clip(-1, 1)
    wave[: len(wave) // 2] = 0
    return wave


def mp3(wave, rate=44_100, mode="VARIABLE"):
    """With the tag that tells its length, and without it."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
    whole = buffer.getvalue()
    return whole, whole[mpeg.stream(whole).start :]


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize("rate", [44_100, 32_000, 24_000, 8_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_without_a_length_has_its_real_one(turn, mode, rate, channels):
    wave = np.repeat(quiet_then_loud()[::turn, None], channels, axis=1)[: 8 * rate]
    tagged, bare = mp3(wave, rate, mode)
    assert audio.inspect(tagged).duration_s == 8
    assert mpeg.stream(tagged).frames == mpeg.stream(tagged).tagged == mpeg.stream(bare).frames
    assert mpeg.with_length(tagged) is tagged
    assert 8 <= audio.inspect(bare).duration_s < 8.25  # a coder's delay at both ends
    assert len(audio.decode(bare, keep_s=7)[0]) == 7 * rate


def test_mp3_recordings_one_after_another_are_heard_whole():
    tagged, bare = mp3(quiet_then_loud())
    titles = b"ID3\x04\0\0\0\0\x02\x10" + np.random.default_rng(0).bytes(272)
    for data in (tagged + tagged, titles + tagged + titles + tagged, bare + titles + bare + titles):
        assert audio.inspect(data).duration_s == pytest.approx(20, abs=0.3)


def test_bytes_that_look_like_a_frame_are_none():
    tagged, bare = mp3(quiet_then_loud())
    frames = mpeg.stream(bare).frames
    first = bare[: bare.index(bare[:2], 4)]
    junk = b"\xff\xfb\0\0" * 50 + first + b"junk" + first * 2 + b"junk"
    assert mpeg.stream(bare + junk).frames == frames
    assert mpeg.stream(tagged + junk).frames == frames
    assert audio.inspect(bare + junk).duration_s == pytest.approx(10, abs=0.1)
    for data in (b"", first, b"ID3", b"\xff", b"\xff\xfb\x90", junk, b"ID3\x04\0\0\0\0\0\0" + bytes(99)):
        assert mpeg.stream(data) is None and mpeg.with_length(data) == data


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_chain_of_ogg_streams_is_refused(subtype):
    data = encoded(sine(), "OGG", subtype)
    assert audio.inspect(data).duration_s == 0.5
    found, what = code(data * 3)
    assert found == "audio-format" and "a chain of 3 Ogg streams" in what


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


SEEDS = [encoded(sine(0.1), kind, subtype) for kind, subtype in FORMATS]
SEEDS += [of_untold_length(encoded(sine(0.1), "FLAC")), *mp3(sine(0.5), RATE)]


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
