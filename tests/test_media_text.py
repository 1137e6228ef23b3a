"""Texts: strict UTF-8 with the place of the damage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpipe.errors import SampleError
from mmpipe.media import text


@pytest.mark.parametrize(
    ("data", "expected", "words"),
    [
        (b"caf\xe9", "text-encoding", "offset 3"),
        ("ok".encode("utf-16"), "text-encoding", "UTF-16"),
        ("ok".encode("utf-16-le"), "text-control", "NUL at byte offset 1"),
        ("é\0".encode(), "text-control", "NUL at byte offset 2"),
        (b"a\xed\xa0\x80", "text-encoding", "offset 1"),
    ],
)
def test_bad_bytes_are_named_with_their_offset(data, expected, words):
    with pytest.raises(SampleError) as raised:
        text.decode(data)
    assert raised.value.code == expected and words in raised.value.what


def test_lone_surrogate_and_length():
    with pytest.raises(SampleError, match="byte offset 2"):
        text.check("é\ud800")
    with pytest.raises(SampleError, match="text-too-long 11 characters, 10 are"):
        text.check("x" * 11, max_chars=10)


@given(st.text().filter(lambda words: "\0" not in words and not words.startswith("\ufeff")))
def test_every_other_text_comes_back(words):
    assert text.decode(words.encode()) == words
    assert text.decode(b"\xef\xbb\xbf" + words.encode()) == words


def test_odd_characters_are_kept_and_named():
    assert text.warnings("plain é") == []
    assert text.warnings("a\u202eb") == ["text: bidirectional control characters"]
    assert "combining" in text.warnings("e" + "\u0301" * 9)[0]
