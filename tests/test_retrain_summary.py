from mmpipe.retrain import summary
from mmpipe.retrain.outcome import Outcome
from mmpipe.retrain.stages import StageResult

LANDED = {
    "rows": 2,
    "known": 1,
    "files": 3,
    "size": 12_345,
    "labels": {"a|b": 2},
    "left": ["t.csv:3 (x) file-empty"],
}


def outcome(**values):
    return Outcome("retrain/7", "c" * 40, seconds=61.4, **values)


def test_all_that_an_operator_asks_is_there():
    figures = {
        "champion": {"accuracy": 0.5, "size_bytes": 1000},
        "challenger": {"accuracy": 0.75, "size_bytes": 1200},
    }
    text = summary.markdown(
        outcome(
            status="promoted",
            reason="accuracy is better",
            landed=LANDED,
            carried=["data/raw/landed/x/rows.jsonl"],
            updated=["data/raw/web.dvc"],
            values={"train.lr": 0.5, "train.batch_size": 8},
            samples={
                "old": 1999,
                "new": 2000,
                "added": {"count": 6, "ids": ["a_1", "b|`"]},
                "removed": {"count": 5, "ids": ["x"]},
                "changed": {"count": 0, "ids": []},
                "relabelled": {"count": 1, "ids": ["y"]},
                "labels": {"shift": 0.25},
                "sizes": [
                    {"name": "audio, s", "old": {"samples": 0}, "new": {"samples": 3, "median": 1.5}},
                ],
            },
            stages=[StageResult("code", "ran", 1.25), StageResult("extract@image", "cached")],
            before={"ingest": {"rows_in": 8, "rows_ok": 8}},
            after={"ingest": {"rows_in": 10, "rows_ok": 8}},
            changed=["dvc.lock"],
            verdict={
                "verdict": "promote",
                "champion": "fusion@v1.0.0",
                "reasons": ["r1", "r2"],
                "figures": figures,
            },
            branch="retrain/7",
            commit="d" * 40,
            published={"tag": "fusion@v1.1.0", "why": "minor: data changed", "dry_run": False},
            promoted={"tag": "fusion#prod#2", "before": "v1.0.0"},
        )
    )
    for line in (
        "# retrain/7: promoted",
        "accuracy is better",
        "Started at commit `cccccccccccc`, 61 s.",
        r"- 2 new samples with 3 files, 12,345 bytes: 2 a\|b",
        "- 1 rows stay in the landing folder",
        "  - t.csv:3 (x) file-empty",
        "- landings of earlier runs that came along: 1",
        "- import data/raw/web.dvc has new data",
        "- `train.lr` = `0.5`",
        "- `train.batch_size` = `8`",
        "| added | 6 | `a_1`, `b/'`, … |",
        "| relabelled | 1 | `y` |",
        "| in all | 1,999 → 2,000 | |",
        "| labels | 0.250 | of the shares moved |",
        "| audio, s | none → 1.5 | median |",
        "- rows in: 8 before, 10 now",
        "- files: `dvc.lock`",
        "| code | ran | 1.2 |",
        "| extract@image | cached | 0.0 |",
        "| accuracy | 0.500 | 0.750 |",
        "| size_bytes | 1,000 | 1,200 |",
        "## Gate: promote over fusion@v1.0.0",
        "- r2",
        "- commit `dddddddddddd` on branch `retrain/7`",
        "- published as `fusion@v1.1.0` (minor: data changed)",
        "- `fusion#prod#2`; before: v1.0.0",
    ):
        assert line in text.splitlines()
    assert "rows ok" not in text and "| changed |" not in text


def test_a_failed_stage_is_named_with_its_last_lines():
    failed = StageResult("train", "failed", 3.0, lines=("```", "no memory"), exit_status=75)
    text = summary.markdown(
        outcome(reason="stage train failed: no memory", stages=[failed], stage_failed="train")
    )
    assert "# retrain/7: failed" in text and "The last lines of train:\n\n```\n'''\nno memory\n```" in text
    assert "## Gate" not in text and "## Metrics" not in text


def test_one_sentence_for_the_commit():
    assert summary.sentence(outcome()) == "Retrain: no new samples"
    told = outcome(landed=LANDED, after={"evaluate": {"accuracy": 0.5}}, verdict={"verdict": "refuse"})
    assert summary.sentence(told) == "Retrain: 2 new samples, accuracy 0.500, the gate says refuse"
