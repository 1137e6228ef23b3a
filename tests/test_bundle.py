"""The bundle's bytes: whole or not at all, and where a pulled one comes from."""

import pytest

from mmpipe import bundle
from mmpipe.errors import VerificationError

FILES = {
    "model.safetensors": b"\x00w",
    "config.json": b"{}\n",
    "metrics.json": b"{}\n",
    "README.md": b"# m\n",
}


def origin(digest: str) -> bundle.Origin:
    return bundle.Origin("fusion", "v1.2.0", "fusion@v1.2.0", "c" * 40, "/srv/models.git", digest)


def write(folder):
    digest = bundle.write(folder, FILES)
    return bundle.write(folder, FILES, origin=origin(digest))


def test_what_is_written_is_read(tmp_path):
    digest = write(tmp_path / "b")
    found = bundle.read(tmp_path / "b")
    assert (found.files, found.digest, found.origin) == (FILES, digest, origin(digest))
    assert bundle.seal(dict(reversed(FILES.items())))[1] == digest
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def flips(folder, step):
    """Flip bits of each file, one at a time and each `step`th: none goes unseen. How many."""
    write(folder)
    found = {}
    for path in sorted(folder.iterdir()):
        good = path.read_bytes()
        bits = range(0, 8 * len(good), step)
        for bit in bits:
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(bytes(bad))
            with pytest.raises(VerificationError, match="bundle-damaged"):
                bundle.read(folder)
        found[path.name] = len(bits)
        path.write_bytes(good)
    bundle.read(folder)
    assert found.keys() == {*FILES, "manifest.json", "origin.json"}
    return sum(found.values())


def test_a_flipped_bit_of_every_byte_of_every_file_is_seen(tmp_path):
    assert flips(tmp_path / "b", 7) > 1_100


@pytest.mark.slow
def test_every_flipped_bit_of_every_file_is_seen(tmp_path):
    assert flips(tmp_path / "b", 1) > 8_000


def test_the_origin_of_another_bundle_is_refused(tmp_path):
    bundle.write(tmp_path / "b", FILES, origin=origin("0" * 64))
    with pytest.raises(VerificationError, match=r"origin\.json is of another bundle"):
        bundle.read(tmp_path / "b")


def test_a_link_in_place_of_a_file_is_refused(tmp_path):
    write(tmp_path / "b")
    (tmp_path / "secret").write_bytes(FILES["config.json"])
    (tmp_path / "b/config.json").unlink()
    (tmp_path / "b/config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(VerificationError, match="is no regular file"):
        bundle.read(tmp_path / "b")


@pytest.mark.parametrize("extra", [{}, {"path": "config.json", "size": -1, "sha256": ""}, {"path": "x"}])
def test_a_manifest_of_other_shape_is_refused(extra):
    text = bundle.files.canonical_json({"files": [extra], "bundle_sha256": "0" * 64})
    with pytest.raises(VerificationError, match=r"m\.json does not match its own digest"):
        bundle.parse(text.encode(), "m.json")
