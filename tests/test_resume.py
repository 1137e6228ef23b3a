import os

import torch

from mmpipe.resume import States, keep_newest


def test_of_abandoned_runs_the_newest_stay_and_the_current_one_always(tmp_path):
    for age, key in enumerate(("newest", "second", "third", "current", "oldest")):
        States(tmp_path / key, key).save({"a": torch.zeros(1)}, {})
        os.utime(tmp_path / key, (1e9 - age, 1e9 - age))
    keep_newest(tmp_path, "current")
    assert {path.name for path in tmp_path.iterdir()} == {"newest", "second", "current"}
    keep_newest(tmp_path, "begun now")
    assert {path.name for path in tmp_path.iterdir()} == {"newest", "second"}
    assert States(tmp_path / "newest", "newest").load() is not None


def test_without_a_folder_there_is_nothing_to_remove(tmp_path):
    keep_newest(tmp_path / "none", "key")
    assert list(tmp_path.iterdir()) == []
