"""The record of a reproduction: whole, of this version, by this key; in a file, in a note, behind a URL."""

import contextlib
import json
import shutil

import published
import pytest
import signing
from typer.testing import CliRunner

from mmpipe import bundle, files
from mmpipe.cli import app
from mmpipe.errors import MmpipeError, NotFoundError, TemporaryError, VerificationError
from mmpipe.registry import messages, notes, signature, tagged
from mmpipe.reproduce import environment, record, verdict
from mmpipe.reproduce.distance import Distance
from mmpipe.reproduce.stage import Stage

STAGE = Stage("train", "differs", 1.0, {"out": ("a", "b")}, (), {"out": Distance("é  and \u2028 \n more")})


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two pairs."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: signing.keys(folder, name) for name in ("team", "thief")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository with two tagged versions, and an empty bare origin."""
    top = tmp_path_factory.mktemp("made")
    root = top / "w"
    root.mkdir()
    published.run(root, "git", "init", "-q", "-b", "main")
    published.run(root, "git", "config", "user.name", "Ada")
    published.run(root, "git", "config", "user.email", "ada@example.org")
    published.run(top, "git", "init", "-q", "--bare", "origin.git")
    published.run(root, "git", "remote", "add", "origin", "../origin.git")
    for number in (1, 2):
        published.run(root, "git", "commit", "-q", "--allow-empty", "-m", f"{number}")
        message = messages.write(f"fusion v{number}.0.0", {"Bundle-SHA256": f"{number}" * 64})
        published.run(root, "git", "tag", "-a", f"fusion@v{number}.0.0", "-m", message)
    published.run(root, "git", "push", "-q", "origin", "--tags")
    return top


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path / "site")
    return tmp_path / "site/w"


def make(root, spec="fusion@v1.0.0", word="identical"):
    found = verdict.Verdict(word, "train" if word == "diverged" else None, "all of it")
    versions = environment.versions("0.1.0")
    version = tagged.read(root).resolve(spec)
    return record.make(version, ".", verdict=found, stages=[STAGE], environment={}, versions=versions)


def note(root, told, spec="fusion@v1.0.0"):
    (root.parent / "record.json").write_bytes(told)
    commit = tagged.read(root).resolve(spec).commit
    notes.write(root.parent / "record.json", commit, root, ref=record.NOTES)


def verify(root, *arguments):
    with contextlib.chdir(root):
        return CliRunner().invoke(app, ["verify", *map(str, arguments)], catch_exceptions=False)


def test_a_record_carries_its_hash_and_the_signature_of_its_bytes(root, keys):
    private, public = keys["team"]
    told = make(root)
    signed = record.signed(told, signature.signer(private))
    bare = json.loads(signed)
    assert bare.pop("signature") and files.canonical_json(bare).encode() == told
    digest = bare.pop("sha256")
    assert digest == files.sha256(files.canonical_json(bare).encode())
    found = record.check(signed, where="x", public_key=public)
    assert (found.tag, found.verdict, found.signed) == ("fusion@v1.0.0", "identical", True)
    assert not record.check(told, where="x").signed


def test_every_byte_of_a_record_counts(root):
    told = make(root)
    for place in range(len(told)):
        bad = bytearray(told)
        bad[place] ^= 1
        with pytest.raises(VerificationError, match="record-damaged x"):
            record.check(bytes(bad), where="x")


@pytest.mark.parametrize(
    "bad", [b"", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"a": NaN}', b'{"a": 1e999}']
)
def test_what_is_no_record_is_damaged(bad):
    with pytest.raises(VerificationError, match="record-damaged"):
        record.check(bad, where="x")


@pytest.mark.parametrize(
    "field",
    ["tag", "commit", "bundle_sha256", "verdict", "stage", "why", "stages", "environment", "versions"],
)
def test_a_record_altered_under_a_new_hash_is_not_what_was_signed(root, keys, field):
    private, public = keys["team"]
    told = json.loads(record.signed(make(root, word="diverged"), signature.signer(private)))
    told[field] = {"stages": [], "environment": {"a": 1}, "versions": {}}.get(field, "identical")
    rest = {key: value for key, value in told.items() if key not in ("sha256", "signature")}
    told["sha256"] = files.sha256(files.canonical_json(rest).encode())
    altered = files.canonical_json(told).encode()
    assert record.check(altered, where="x").signed
    with pytest.raises(VerificationError, match=r"signature-bad x its signature does not hold for team\.pub"):
        record.check(altered, where="x", public_key=public)


def test_the_wrong_key_no_signature_and_anothers_are_told_apart(root, keys):
    team, thief = (signature.signer(keys[name][0]) for name in ("team", "thief"))
    told, public = make(root), keys["team"][1]
    with pytest.raises(VerificationError, match=r"signature-missing x .*Fix: reproduce it with --sign"):
        record.check(told, where="x", public_key=public)
    with pytest.raises(VerificationError, match="signature-bad"):
        record.check(record.signed(told, thief), where="x", public_key=public)
    other = json.loads(record.signed(make(root, "fusion@v2.0.0"), team))["signature"]
    swapped = files.canonical_json({**json.loads(told), "signature": other}).encode()
    with pytest.raises(VerificationError, match="signature-bad"):
        record.check(swapped, where="x", public_key=public)


def test_a_bundles_signature_is_none_of_a_record_and_the_other_way_round(root, keys, tmp_path):
    private, public = keys["team"]
    sign, told = signature.signer(private), make(root)
    bundle.write(tmp_path / "fusion", published.contents(1))
    of_bundle, of_record = sign(tmp_path / "fusion"), json.loads(record.signed(told, sign))["signature"]
    wrong = files.canonical_json({**json.loads(told), "signature": of_bundle}).encode()
    with pytest.raises(VerificationError, match="signature-bad"):
        record.check(wrong, where="x", public_key=public)
    with pytest.raises(VerificationError, match="signature-bad"):
        signature.verify(tmp_path / "fusion", of_record, public, where="x")


def test_a_signed_record_travels_in_the_note_and_is_read_from_everywhere(root, keys):
    private, public = keys["team"]
    signed = record.signed(make(root), signature.signer(private))
    for told in (make(root), signed):  # the second replaces the first
        note(root, told)
    assert notes.push(root, ref=record.NOTES) == "origin"
    origin = root.parent / "origin.git"
    for source in (".", origin, origin.as_uri()):
        commit = tagged.read(root).resolve("fusion@v1.0.0").commit
        with contextlib.chdir(root):
            assert notes.read(str(source), commit, ref=record.NOTES) == signed
        done = verify(root, "fusion@v1.0.0", "--record", "--require-signature", public, "--from", source)
        assert done.exit_code == 0
        assert done.stdout.splitlines()[0] == "fusion@v1.0.0: identical: all of it"
        assert done.stdout.endswith("record whole, signature holds\n")
        done = verify(root, "fusion@v2.0.0", "--record", "--from", source)
        assert done.exit_code == 3 and "record-missing fusion@v2.0.0" in done.stderr
    listed = published.run(origin, "git", "for-each-ref", "--format=%(refname)", "refs/notes")
    assert listed == f"{record.NOTES}\n"


def test_the_command_tells_what_is_wrong_with_a_record(root, keys):
    private, public = keys["team"]
    sign = signature.signer(private)
    asked = ("fusion@v1.0.0", "--record", "--require-signature", public)
    note(root, make(root))
    plain = verify(root, "fusion@v1.0.0", "--record")
    assert plain.exit_code == 0 and plain.stdout.endswith("record whole, not signed\n")
    done = verify(root, *asked)
    assert done.exit_code == 6 and done.stderr.startswith("signature-missing fusion@v1.0.0 refs/notes/")
    signed = record.signed(make(root), sign)
    note(root, signed.replace(b'"verdict": "identical"', b'"verdict": "identicel"'))
    done = verify(root, *asked)
    assert done.exit_code == 6 and done.stderr.startswith("record-damaged fusion@v1.0.0")
    note(root, record.signed(make(root, "fusion@v2.0.0"), sign))
    done = verify(root, *asked)
    assert (
        done.exit_code == 6
        and "its record says tag fusion@v2.0.0, the version has fusion@v1.0.0" in done.stderr
    )
    note(root, signed)
    done = verify(root, "fusion@v1.0.0", "--record")
    assert done.stdout.endswith("record whole, signed, by whom is not checked\n")
    thief = keys["thief"][1]
    done = verify(root, "fusion@v1.0.0", "--record", "--require-signature", thief)
    assert done.exit_code == 6 and "signature-bad" in done.stderr and "thief.pub" in done.stderr
    done = verify(root, "fusion@v1.0.0", "--record", "--require-signature", root / "nowhere.pub")
    assert done.exit_code == 3 and done.stderr.startswith("key-missing")


def test_a_moved_tag_is_not_what_was_reproduced(root, keys):
    private, public = keys["team"]
    note(root, record.signed(make(root), signature.signer(private)))
    message = messages.write("fusion v1.0.0", {"Bundle-SHA256": "3" * 64})
    published.run(root, "git", "tag", "-f", "-a", "fusion@v1.0.0", "-m", message, "fusion@v1.0.0^{}")
    done = verify(root, "fusion@v1.0.0", "--record", "--require-signature", public)
    assert done.exit_code == 6 and "its record says bundle_sha256 1111" in done.stderr


def test_a_record_in_a_file_and_as_json(root, keys, tmp_path):
    private, public = keys["team"]
    path = tmp_path / "record.json"
    path.write_bytes(record.signed(make(root), signature.signer(private)))
    told = json.loads(verify(root, path, "--record", "--require-signature", public, "--json").stdout)
    assert (told["tag"], told["verdict"], told["checked_signature"]) == ("fusion@v1.0.0", "identical", True)
    path.write_bytes(record.signed(make(root, word="diverged"), signature.signer(private)))
    done = verify(root, path, "--record", "--require-signature", public)
    assert done.exit_code == 6 and done.stderr.startswith("not-reproduced fusion@v1.0.0")
    assert "diverged at train" in done.stdout
    assert verify(root, tmp_path / "none.json", "--record").exit_code == 3
    assert verify(root, "--record").exit_code == 2


def test_a_key_that_cannot_sign_is_named_before_anything_runs(root, keys):
    with contextlib.chdir(root):
        words = ("reproduce", "fusion@v1.0.0", "--sign", str(keys["team"][1]))
        done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 3 and done.stderr.startswith("key-missing")
    assert not (root / ".mmpipe").exists()


def test_notes_that_others_pushed_are_merged_by_the_fix(root, tmp_path):
    other = tmp_path / "other"
    published.run(tmp_path, "git", "clone", "-q", str(root.parent / "origin.git"), str(other))
    published.run(other, "git", "config", "user.name", "B")
    published.run(other, "git", "config", "user.email", "b@example.org")
    note(other, make(other, "fusion@v2.0.0"), "fusion@v2.0.0")
    notes.push(other, ref=record.NOTES)
    note(root, make(root))
    with pytest.raises(MmpipeError, match=r"(?s)remote-failed .* the note is here, not at origin") as caught:
        notes.push(root, ref=record.NOTES)
    published.run(root, "sh", "-c", caught.value.fix)
    for number in (1, 2):
        assert verify(root, f"fusion@v{number}.0.0", "--record", "--from", "../origin.git").exit_code == 0


def test_where_notes_cannot_go_to_or_come_from(root, tmp_path):
    note(root, make(root))
    with pytest.raises(TemporaryError, match="remote-failed"):
        notes.read((tmp_path / "nowhere.git").as_uri(), "ab" * 20, ref=record.NOTES)
    published.run(root, "git", "remote", "rename", "origin", "one")
    published.run(root, "git", "remote", "add", "two", "../origin.git")
    with pytest.raises(NotFoundError, match="has 2 git remotes, none called origin"):
        notes.push(root, ref=record.NOTES)
    published.run(root, "git", "remote", "remove", "two")
    assert notes.push(root, ref=record.NOTES) == "one"
    big = tmp_path / "big"
    big.write_bytes(b"x" * (notes.MAX_BYTES + 1))
    commit = tagged.read(root).resolve("fusion@v1.0.0").commit
    notes.write(big, commit, root, ref=record.NOTES)
    with pytest.raises(VerificationError, match=r"record-damaged .* is larger than 20,000,000 bytes"):
        notes.read(str(root), commit, ref=record.NOTES)
