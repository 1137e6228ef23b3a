import re
from pathlib import Path

import pytest

import flows
from mmpipe import errors
from mmpipe.errors import FIXES, MmpipeError, SampleError, TemporaryError

STATUSES = {
    "MmpipeError": 1,
    "UsageError": 2,
    "NotFoundError": 3,
    "TooManyBadRowsError": 4,
    "InvalidError": 5,
    "VerificationError": 6,
    "LockedError": 7,
    "TemporaryError": 75,
}


def test_message_has_code_place_what_done_and_fix():
    error = MmpipeError("manifest-missing", "does not exist", where="rows.csv")
    assert str(error) == (
        "manifest-missing rows.csv does not exist — stopped — "
        "Fix: put the manifest there, or correct data.manifests in params.yaml"
    )


def test_own_fix_replaces_the_codes():
    assert str(MmpipeError("usage", "x", fix="do this")).endswith("— Fix: do this")


def test_every_class_has_its_status_and_is_drawn_in_the_docstring():
    found = {
        name: kind.exit_status
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, MmpipeError)
    }
    assert found == STATUSES
    for name, status in STATUSES.items():
        assert re.search(rf"{name}\s[^\n]*\b{status}\b", errors.__doc__ or ""), name


def test_every_code_is_used_somewhere():
    source = "".join(
        path.read_text()
        for package in (errors, flows)
        for path in Path(package.__file__).parent.rglob("*.py")
        if path.name != "errors.py"
    )
    unused = [code for code in FIXES if f'"{code}"' not in source]
    assert unused == []


@pytest.mark.parametrize("make", [SampleError, TemporaryError])
def test_unknown_code_is_our_mistake(make):
    with pytest.raises(AssertionError):
        make("no-such-code", "x")


def test_fixes_are_clauses():
    assert FIXES
    for code, fix in FIXES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        assert not fix.endswith(".") and "\n" not in fix
