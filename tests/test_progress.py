"""What a program hears of progress that asked for it."""

from mmpipe.progress import LINES, bar


def test_lines_for_a_program_that_asks(monkeypatch, capsys):
    monkeypatch.setenv(LINES, "lines")
    with bar("extract image", 40) as advance:
        for _ in range(40):
            advance(1)
    assert capsys.readouterr().err.splitlines() == ["extract image 1/40", "extract image 40/40"]


def test_nothing_for_others(monkeypatch, capsys):
    monkeypatch.delenv(LINES, raising=False)
    with bar("extract image", 2) as advance:
        advance(2)
    assert capsys.readouterr().err == ""
