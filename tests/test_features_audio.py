"""Recordings → spectrograms: a sine's band, frame counts, torchaudio and librosa as oracles."""

import io
import math

import numpy as np
import pytest
import soundfile

from mmpipe.errors import SampleError
from mmpipe.features import audio

FRONT_END = {"sample_rate": 16_000, "n_fft": 400, "hop_length": 160, "n_mels": 64}
SETTINGS = {**FRONT_END, "max_duration_s": 2.0, "mode": "fast"}


def sine(frequency, *, rate=16_000, seconds=1.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def wav(samples, rate=16_000):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def noise(seconds=1.0, rate=16_000):
    return np.random.default_rng(0).normal(0, 0.1, int(seconds * rate)).astype(np.float32)


@pytest.mark.parametrize("frequency", [300, 1_000, 3_000, 7_000])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_sine_peaks_in_its_band(frequency, rate):
    mel = audio.extract(wav(sine(frequency, rate=rate), rate), **SETTINGS)
    top = 2595 * math.log10(1 + 8_000 / 700)
    band = 2595 * math.log10(1 + frequency / 700) / top * 65 - 1
    assert mel.dtype == np.float16
    assert abs(int(mel[20].argmax()) - band) <= 1


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("samples", [1, 100, 399, 400, 1_601, 16_000, 80_000])
def test_one_frame_a_hop_and_one_more(mode, samples):
    mel = audio.extract(wav(noise(6)[:samples]), **{**SETTINGS, "mode": mode})
    assert mel.shape == (1 + min(max(samples, 400), 32_000) // 160, 64)
    assert mel.nbytes <= audio.max_bytes(**SETTINGS)


def test_silence_is_the_floor():
    assert np.allclose(audio.extract(wav(np.zeros(8_000)), **SETTINGS), math.log(1e-6), atol=0.01)


@pytest.mark.filterwarnings("ignore:At least one mel filterbank has all zero values")
@pytest.mark.parametrize("sizes", [(400, 160, 64), (512, 128, 80), (1024, 256, 40), (333, 100, 16)])
def test_fast_equals_torchaudio_without_resampling(sizes):
    front_end = {"sample_rate": 16_000, **dict(zip(("n_fft", "hop_length", "n_mels"), sizes, strict=True))}
    fast = audio.fast(noise(), 16_000, **front_end)
    exact = audio.exact(noise(), 16_000, **front_end)
    assert fast.shape == exact.shape
    assert np.abs(audio.log(fast) - audio.log(exact)).max() < 1e-3


def test_fast_is_close_to_torchaudio_with_resampling():
    speech = sine(220, rate=44_100) + 0.3 * sine(1_500, rate=44_100) + 0.1 * sine(5_000, rate=44_100)
    fast = audio.fast(speech, 44_100, **FRONT_END)
    exact = audio.exact(speech, 44_100, **FRONT_END)
    loud = exact[5:-5] > 1e-2  # elsewhere the two resampling filters leak differently
    assert fast.shape == exact.shape
    assert np.abs(np.log(fast[5:-5][loud]) - np.log(exact[5:-5][loud])).max() < 0.02


@pytest.mark.slow  # its import compiles for seconds
def test_mel_power_equals_librosa():
    librosa = pytest.importorskip("librosa")
    samples = noise()
    want = librosa.feature.melspectrogram(
        y=samples, sr=16_000, n_fft=400, hop_length=160, n_mels=64, htk=True, norm=None, pad_mode="reflect"
    )
    got = audio.fast(samples, 16_000, **FRONT_END)
    assert np.allclose(got, want.T, rtol=1e-4, atol=1e-7)


@pytest.mark.slow  # its import compiles for seconds
@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("sizes", [(400, 160, 64, 20), (512, 128, 40, 40), (1024, 256, 80, 13)])
def test_log_mel_mfcc_and_magnitude_equal_librosa_to_1e_4(mode, sizes):
    librosa = pytest.importorskip("librosa")
    n_fft, hop_length, n_mels, n_mfcc = sizes
    samples = noise() + sine(440)
    frames = {"n_fft": n_fft, "hop_length": hop_length, "pad_mode": "reflect"}
    magnitude = np.abs(librosa.stft(samples, **frames))
    mel = librosa.feature.melspectrogram(
        y=samples, sr=16_000, n_mels=n_mels, htk=True, norm=None, power=2.0, **frames
    )
    log_mel = np.log(mel + 1e-6)
    mfcc = librosa.feature.mfcc(S=log_mel, n_mfcc=n_mfcc, dct_type=2, norm="ortho")
    front_end = audio.FRONT_ENDS[mode]
    at = {"sample_rate": 16_000, "n_fft": n_fft, "hop_length": hop_length}
    ours = audio.log(front_end.mel(samples, 16_000, n_mels=n_mels, **at))
    assert np.allclose(front_end.magnitude(samples, 16_000, **at), magnitude.T, rtol=1e-4, atol=1e-4)
    assert np.allclose(ours, log_mel.T, rtol=1e-4, atol=1e-4)
    assert np.allclose(front_end.coefficients(ours, n_mfcc), mfcc.T, rtol=1e-4, atol=1e-4)


KINDS = {"log_mel": 64, "mfcc": 20, "stft": 201}


@pytest.mark.parametrize("kind", KINDS)
def test_both_modes_of_each_kind_are_the_same_and_as_wide_as_said(kind):
    settings = {**SETTINGS, "kind": kind, "n_mfcc": 20}
    fast, exact = (audio.extract(wav(noise()), **{**settings, "mode": mode}) for mode in ("fast", "exact"))
    assert fast.shape == exact.shape == (101, KINDS[kind])
    assert np.allclose(fast.astype(float), exact.astype(float), rtol=2e-3, atol=2e-3)
    assert audio.facts(**settings)["shape"] == f"[-1, {KINDS[kind]}]"
    assert audio.max_bytes(**settings) == 201 * KINDS[kind] * 2
    assert np.abs(fast).max() > 1


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_a_wave_is_the_samples_themselves_at_the_rate_asked_for(mode):
    settings = {**SETTINGS, "mode": mode}
    found = audio.extract(wav(noise()), **settings, kind="wave")
    assert found.dtype == np.float32 and np.allclose(found, noise(), atol=1e-4)
    assert len(audio.extract(wav(noise(rate=8_000), 8_000), **settings, kind="wave")) == 16_000
    assert len(audio.extract(wav(noise()[:9]), **settings, kind="wave")) == 400
    facts = audio.facts(**settings, kind="wave")
    assert (facts["shape"], facts["dtype"]) == ("[-1]", "float32")
    assert audio.max_bytes(**settings, kind="wave") >= 4 * 32_000


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_a_wave_to_be_kept_is_that_of_a_file_of_16_bits(mode):
    settings = {**SETTINGS, "mode": mode, "kind": "pcm"}
    given = np.round(noise() * 32_768).astype(np.int16)
    assert np.array_equal(audio.extract(wav(given), **settings), given)
    half = audio.extract(wav(noise(rate=8_000), 8_000), **settings)
    floats = audio.extract(wav(noise(rate=8_000), 8_000), **{**settings, "kind": "wave"})
    assert half.dtype == np.int16 and np.abs(half / 32_768 - floats).max() <= 0.5 / 32_768
    facts = audio.facts(**settings)
    assert (facts["shape"], facts["dtype"]) == ("[-1]", "int16")
    assert audio.max_bytes(**settings) >= 2 * 32_000


def test_a_wave_beyond_full_scale_is_cut_there_and_none_is_kept_that_is_not_finite():
    assert audio.pcm(np.array([-2, -1, 0, 1, 2], np.float32)).tolist() == [
        -32_768,
        -32_768,
        0,
        32_767,
        32_767,
    ]
    with pytest.raises(SampleError, match="audio-not-finite"):
        audio.pcm(np.array([0, np.nan], np.float32))


def test_a_sines_magnitude_by_hand():
    found = audio.extract(wav(sine(1_000)), **SETTINGS, kind="stft")
    assert abs(float(found[20, 25]) - 0.5 * 200 / 2) < 0.05  # amplitude × sum of the window / 2, at 1000 / 40
    assert found[20].argmax() == 25 and float(found[20, 40]) < 0.02


def test_the_cosines_are_orthonormal_and_a_flat_spectrum_has_one_coefficient():
    cosines = audio.dct(64, 64)
    assert np.allclose(cosines.T @ cosines, np.eye(64), atol=1e-5)
    flat = audio.fast_coefficients(np.full((2, 64), 3, np.float32), 20)
    assert np.allclose(flat[:, 0], 3 * 8) and np.abs(flat[:, 1:]).max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_a_recording_shorter_than_a_window_and_silence_are_finite(kind, mode):
    for samples in (noise()[:7], np.zeros(4_000)):
        found = audio.extract(wav(samples), **{**SETTINGS, "mode": mode}, kind=kind)
        assert np.isfinite(found).all() and len(found) >= 3


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_a_spectrogram_that_is_not_finite_is_refused(monkeypatch, mode):
    file = io.BytesIO()
    soundfile.write(file, noise() * 1e25, 16_000, format="WAV", subtype="FLOAT")
    monkeypatch.setattr(audio.audio, "MAX_PEAK", math.inf)
    with pytest.raises(SampleError, match="audio-not-finite gives a spectrogram with NaN"):
        audio.extract(file.getvalue(), **{**SETTINGS, "mode": mode})


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_the_largest_sound_that_is_believed_has_a_finite_spectrogram(mode):
    file = io.BytesIO()
    loud = audio.audio.MAX_PEAK * np.sign(sine(440))
    soundfile.write(file, loud, 16_000, format="WAV", subtype="FLOAT")
    largest = {**SETTINGS, "n_fft": 8_192, "mode": mode}
    assert 20 < audio.extract(file.getvalue(), **largest).max() < 40
    assert audio.extract(file.getvalue(), **largest, kind="stft").max() == 65_504


def test_a_recording_that_ends_early_is_taken_where_ingest_has_judged_it():
    data = wav(noise())[:-1_000]
    with pytest.raises(SampleError, match="audio-truncated"):
        audio.extract(data, **SETTINGS)
    assert len(audio.extract(data, judged=True, **SETTINGS)) == 1 + (16_000 - 500) // 160


def test_facts_name_all_that_is_needed_to_repeat_it():
    facts = audio.facts(**SETTINGS)
    assert facts["shape"] == "[-1, 64]"
    assert facts["dtype"] == "float16"
    assert {key: facts[key] for key in SETTINGS} == {key: str(value) for key, value in SETTINGS.items()}
