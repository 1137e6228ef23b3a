"""`benchmarks/results.py` and `missing.py`: which trainings there are, and pages that say what rows say."""

import json
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mmpipe import init, params

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import borrowing
import missing
import results
import results_page

FUSIONS = {"concat", "gated", "attention", "lowrank", "weighted", "stacking"}


def row(variant, seed, accuracy, **more):
    subsets = {"image": {"accuracy": 0.25}, "text": {"accuracy": 0.5}, "image+text": {"accuracy": accuracy}}
    return {
        "recipe": "emoji",
        "variant": variant,
        "seed": seed,
        "task": "classify",
        "figures": {"accuracy": accuracy, "macro_f1": accuracy / 2},
        "subsets": subsets,
        "parameters": 1234567,
        "train_cpu_s": 10.0 * (seed + 1),
        "date": "2026-11-26",
    } | more


def test_jobs_are_all_that_makes_sense():
    found = results.jobs(["stamps"], [0, 1, 7])
    by_variant = {job.variant for job in found}
    assert by_variant == FUSIONS | {"objective", "whole", "audio alone", "image alone", "text alone"}
    assert len(found) == 3 * len(by_variant)
    assert {(job.changes["train.seed"], job.changes["split.fold"]) for job in found} == {
        (0, 0),
        (1, 1),
        (7, 2),
    }
    [text] = [job for job in found if (job.variant, job.seed) == ("text alone", 1)]
    assert (text.changes["model.image"], text.changes["model.audio"]) == ("none", "none")
    assert "model.text" not in text.changes and text.name == "stamps-text-alone-1"


def test_what_mmpipe_refuses_is_no_job():
    """Vectors have no steps to look through; retrieval fuses nothing, and a modality alone finds no other."""
    pretrained = {job.variant for job in results.jobs(["stamps-pretrained"], [0])}
    assert pretrained == (FUSIONS - {"attention"}) | {"objective", "whole", "image alone", "text alone"}
    assert {job.variant for job in results.jobs(["retrieval"], [0])} == {"concat"}


def test_a_decoder_has_no_losses_of_single_modalities():
    [job] = results.jobs(["answer"], [0], ["objective"])
    assert job.changes["objective.weights"] == "uncertainty" and "train.auxiliary" not in job.changes


def test_transcripts_are_trained_by_their_units():
    """Expected words are for decoding alone: no modality to train without, and nothing is fused."""
    found = results.jobs(["speech"], [0])
    assert [(job.variant, job.changes.get("model.output")) for job in found] == [
        ("characters", None),
        ("pieces", {"units": "bpe"}),
    ]


def test_data_with_a_split_of_their_own_keep_it():
    found = results.jobs(["dialogue"], [0, 1], ["lowrank", "text alone"])
    assert [(job.variant, job.seed) for job in found] == [
        ("text alone", 0),
        ("text alone", 1),
        ("lowrank", 0),
        ("lowrank", 1),
    ]
    assert not any("split.fold" in job.changes for job in found)


@pytest.mark.parametrize("job", results.jobs(init.recipes(), [3]), ids=lambda job: job.name)
def test_every_job_has_parameters_that_mmpipe_takes(tmp_path, job):
    workspace, folder = tmp_path / "w", tmp_path / "t"
    workspace.mkdir()
    (workspace / "params.yaml").write_text(params.render(recipe(job.recipe)))
    borrowing.furnish(folder, workspace, [f"{key}={json.dumps(value)}" for key, value in job.changes.items()])
    chosen = params.load(folder / "params.yaml")
    assert (chosen.train.seed, chosen.train.threads) == (3, 1)
    assert chosen.model.fusion == job.changes.get("model.fusion", chosen.model.fusion)
    borrowed = {path.name for path in folder.rglob("*") if path.is_symlink()}
    assert {"samples.parquet", "image", "audio"} <= borrowed
    assert ("splits.parquet" in borrowed) == ("split.fold" not in job.changes)
    ready = chosen.text.pretrained is not None or "splits.parquet" in borrowed
    assert ("tokenizer.json" in borrowed) == ready == ("text" in borrowed)


def recipe(name):
    return params.Params.model_validate(YAML(typ="safe").load(init.template(f"recipes/{name}.yaml")))


def test_a_row_is_of_the_parameters_it_was_trained_with(tmp_path):
    """A row counts as done for its own parameters only; a new one takes an older one's place."""
    rows = results.Rows(tmp_path / "rows.jsonl")
    job = results.jobs(["emoji"], [0], ["gated"])[0]
    rows.add(row("gated", 0, 0.5, digest="a"))
    rows.add(row("gated", 1, 0.7, digest="a"))
    again = results.Rows(tmp_path / "rows.jsonl")
    assert again.has(job, "a") and not again.has(job, "b")
    again.add(row("gated", 0, 0.6, digest="b"))
    found = results.read(tmp_path / "rows.jsonl")
    assert [(one["seed"], one["digest"], one["figures"]["accuracy"]) for one in found] == [
        (0, "b", 0.6),
        (1, "a", 0.7),
    ]


def test_a_digest_changes_with_what_is_chosen_and_not_with_defaults():
    chosen = recipe("emoji")
    other = chosen.model_copy(update={"train": chosen.train.model_copy(update={"lr": 0.1})})
    same = chosen.model_copy(update={"image": chosen.image.model_copy(update={"size": 64})})
    assert results.digest_of(chosen) == results.digest_of(same) != results.digest_of(other)


def test_the_page_has_means_spreads_gains_and_verdicts():
    rows = [row("concat", 0, 0.7), row("concat", 1, 0.9), row("gated", 0, 0.75), row("gated", 1, 0.65)]
    rows += [row("image alone", 0, 0.3, subsets={"image": {"accuracy": 0.3}})]
    page = results_page.render(rows, {"emoji": ["concat", "gated", "lowrank"]})
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert lines[0].startswith(
        "|  | accuracy | macro-F1 | against `concat` | the same model on image / text |"
    )
    assert lines[2] == "| image alone | 0.300 | 0.150 | -0.400 | – / – | 1,234,567 | 10 | 1 |"
    told = "0.800 ± 0.141 | 0.400 ± 0.071 |  | 0.250 / 0.500 | 1,234,567 | 15 | 2 |"
    assert lines[3] == f"| `concat` | {told}"
    assert lines[4].startswith("| `gated` | 0.700 ± 0.071 | 0.350 ± 0.035 | -0.100 ± 0.212 |")
    assert "To beat: accuracy 0.771 (classical" in page
    assert "beaten on the mean by `concat` (0.800); not by `gated` (0.700)." in page
    assert "- Not trained yet: lowrank, concat (2 of 3 seeds), gated (2 of 3 seeds)." in page
    assert "**not beaten**: `gated` (0.700)." in results_page.render(rows[2:4], {"emoji": []})
    assert "- Not trained yet: gated." in results_page.render(rows[:1] * 3, {"emoji": ["concat", "gated"]})


def test_what_helps_to_decode_has_a_table_of_its_own():
    def heard(seed, greedy, best):
        ways = {"greedy": greedy, "expected words": best}
        return {
            "recipe": "speech",
            "variant": "characters",
            "seed": seed,
            "task": "transcribe",
            "figures": {"wer": best, "cer": best / 2},
            "subsets": {"audio": {"wer": greedy, "cer": greedy / 2}, "text": {"samples": 0}},
            "decoding": {
                name: {"wer": of, "cer": of / 2, "samples": 150 + seed} for name, of in ways.items()
            },
            "parameters": 1000,
            "train_cpu_s": 60.0,
            "date": "2026-11-26",
        }

    page = results_page.render([heard(0, 0.8, 0.5), heard(1, 0.6, 0.5)], {"speech": ["characters"]})
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert lines[0] == "|  | WER | CER | parameters | training, CPU s | seeds |"
    assert lines[3] == "| decoding, `characters` | WER | CER | test samples |"
    assert lines[5] == "| greedy | 0.700 ± 0.141 | 0.350 ± 0.071 | 150 / 151 |"
    assert lines[6] == "| expected words | 0.500 ± 0.000 | 0.250 ± 0.000 | 150 / 151 |"


def test_training_time_that_a_kill_took_is_not_guessed():
    rows = [row("concat", 0, 0.7, train_cpu_s=None), row("concat", 1, 0.7)]
    assert "| 1,234,567 | 20 | 2 |" in results_page.render(rows, {"emoji": []})
    assert "| 1,234,567 | not known | 1 |" in results_page.render(rows[:1], {"emoji": []})


def test_missing_modalities_are_a_mean_over_all_ways():
    """Half of all three dropped: each of the 7 subsets 1/8, and each single one a third of the eighth."""
    subsets = {"+".join(some): {"accuracy": 0.0} for some in missing._subsets()}
    subsets["audio+image+text"]["accuracy"] = 0.8
    subsets["audio+text"]["accuracy"] = 0.4
    assert missing.accuracy(subsets, "image", 0.25) == pytest.approx(0.75 * 0.8 + 0.25 * 0.4)
    assert missing.accuracy(subsets, missing.TOGETHER, 0.0) == pytest.approx(0.8)
    assert missing.accuracy(subsets, missing.TOGETHER, 0.5) == pytest.approx((0.8 + 0.4) / 8)
    subsets["text"]["accuracy"] = 0.6
    assert missing.accuracy(subsets, missing.TOGETHER, 1.0) == pytest.approx(0.6 / 3)
    for share in (0.0, 0.3, 0.6, 0.9, 1.0):
        parts = [missing.chance(len(some), share) for some in missing._subsets()]
        assert sum(parts) == pytest.approx(1.0)


def test_the_pages_are_those_of_the_rows_beside_them(repository):
    rows = results.read(repository / "docs/results.jsonl")
    assert len(rows) > 10
    page = results_page.render(rows, results.sensible())
    assert (repository / "docs/results.md").read_text() == page, "--write it anew"
    assert (repository / "docs/missing.md").read_text() == missing.render(rows), "run benchmarks/missing.py"
    named = {(row["recipe"], row["variant"]) for row in rows}
    assert named <= {(job.recipe, job.variant) for job in results.jobs(init.recipes(), [0])}


def test_missing_modalities_are_compared_seed_by_seed():
    """Rows come in any order; the difference is between models of one seed."""
    names = ["+".join(some) for some in missing._subsets()]
    values = {("concat", 0): 0.5, ("concat", 1): 0.9, ("whole", 1): 0.8, ("whole", 0): 0.4}
    rows = [
        row(variant, seed, value, recipe="stamps", subsets={name: {"accuracy": value} for name in names})
        for (variant, seed), value in values.items()
    ]
    lines = missing.render(rows).splitlines()
    assert "| text | with | 0.700 ± 0.283 | 0.700 ± 0.283 | 0.700 ± 0.283 | 0.700 ± 0.283 |" in lines
    assert [line for line in lines if "seed by seed" in line and line.count("+0.100 ± 0.000") == 4] != []
    assert missing.draw(rows) == missing.draw(rows)
