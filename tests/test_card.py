"""The model card: Hugging Face's own parser reads it, and no label can write into it."""

import json
import re

import pytest
import tiny_bundle
from huggingface_hub import ModelCard

from mmpipe import bundle, card, findings, label_findings, paths, schema, scorecard, tables
from mmpipe.files import canonical_json
from mmpipe.model.complexity import Load
from mmpipe.stages import bundle as bundle_stage
from mmpipe.stages import code

CONFIG = {
    "architecture": {"modalities": ["audio", "image"]},
    "task": "classify",
    "labels": ["a", "b"],
    "data_sha256": "d" * 64,
    "code_sha256": "c" * 64,
    "libraries": {"mmpipe": "0.1.0", "torch": "2.11.0"},
    "machine": {"device": "cpu", "dtype": "torch.float32"},
}
ONE = {"accuracy_95": [0.5, 0.9], "macro_f1_95": [0.4, 0.8], "macro_f1": 0.7, "samples": 20}
TEST = {
    "accuracy": 0.75,
    "macro_f1": 0.7,
    "ece": 0.05,
    "ece_raw": 0.1,
    "samples": 20,
    "per_class": [{"label": "a | b\n<script>", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 12}],
    "subsets": {
        "audio": {**ONE, "accuracy": 0.5},
        "image": {**ONE, "accuracy": 0.625},
        "audio+image": {**ONE, "accuracy": 0.75},
    },
}
TOLD = {
    "says": "One label out of 2",
    "kind": "label",
    "index": [
        {"type": "accuracy", "name": "accuracy", "value": 0.75},
        {"type": "f1", "name": "macro F1", "value": 0.7},
        {"type": "ece", "name": "expected calibration error", "value": 0.05},
    ],
    "headline": [findings.tile("Accuracy", 0.75, "share", low=0.5, high=0.9)],
    "verdict": "One modality: nothing is fused",
    "sections": [
        findings.section(
            "modalities",
            "What each modality adds",
            "",
            label_findings.subsets(
                TEST | {"samples_left_out": 1}, {"accuracy": "accuracy", "macro_f1": "macro F1"}, "share"
            ),
        ),
        findings.section("classes", "Classes", "", [label_findings.per_class(TEST)]),
    ],
}
ROWS = {"rows_in": 30, "rows_ok": 27, "rows_quarantined": 2, "rows_duplicates": 1}
TRAIN = {
    "parameters": 1234,
    "multiply_adds": 5678,
    "activation_bytes": 4100,
    "activation_bytes_8": 32800,
}
SPLIT = {"samples": {"train": 5, "val": 2, "test": 20}, "groups": 25}


@pytest.fixture
def text():
    return card.render(card.Facts("fusion", "it's: mine", CONFIG, TEST, TOLD, TRAIN, ROWS, SPLIT, 4321))


def test_the_head_is_a_model_index(text):
    [accuracy, f1, ece] = ModelCard(text).data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", 0.75)
    assert (f1.metric_value, ece.metric_value) == (0.7, 0.05)
    assert accuracy.dataset_name == "it's: mine" and accuracy.dataset_revision == "d" * 64
    assert ModelCard(text).data.library_name == "mmpipe"


def test_it_tells_subsets_contribution_rows_and_cost(text):
    assert "| audio + image | 0.750 | 0.500 – 0.900 |" in text
    assert "| image | 0.500 | +0.250 |" in text and "| audio | 0.625 | +0.125 |" in text
    assert "30 rows in, 27 good, 2 put aside, 1 duplicates" in text
    assert "1,234 parameters, 5,678 multiply-adds" in text and "4,321 bytes" in text
    assert "at most 4,100 bytes for a batch of 1 and 32,800 for one of 8" in text
    assert "Warning" not in text
    told = TOLD | {"warnings": ["fusion is not shown to beat its best single modality"]}
    warned = card.render(card.Facts("fusion", "x", CONFIG, TEST, told, TRAIN, ROWS, SPLIT, 4321))
    assert "\n**Warning:** fusion is not shown to beat its best single modality.\n" in warned
    assert scorecard.verdict(TEST).capitalize() in text
    assert "| Accuracy | 0.750 | 0.500 – 0.900 |" in text


def test_a_label_cannot_write_into_the_page(text):
    assert "| a &#124; b &#60;script&#62; | 0.500 | 1.000 | 0.667 | 12 |" in text
    assert "<script>" not in text


def test_the_same_facts_give_the_same_text(text):
    facts = json.loads(json.dumps([CONFIG, TEST, TOLD, ROWS, SPLIT]))
    train = dict(reversed(TRAIN.items()))
    assert text == card.render(card.Facts("fusion", "it's: mine", *facts[:3], train, *facts[3:], 4321))


def test_time_and_memory_stand_there_where_they_were_measured(text):
    loads = [Load(1, 2.0, 512.4), Load(32, 16.0, None)]
    facts = card.Facts("fusion", "x", CONFIG, TEST, TOLD, TRAIN, ROWS, SPLIT, 4321, loads)
    assert "| 1 | 2.00 | 500 | 512 |\n| 32 | 16.00 | 2000 | ? |\n\n## Limits" in card.render(facts)
    assert "On the machine that made this card" not in text and "for one of 8.\n\n## Limits" in text


def test_the_stage_measures_where_it_is_asked_to(tmp_path, monkeypatch):
    tiny_bundle.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    trained = bundle.read(paths.TRAINED).files
    config = CONFIG | json.loads(trained[bundle.CONFIG])
    bundle.write(paths.TRAINED, {**trained, bundle.CONFIG: canonical_json(config).encode()})
    for name, values in {"evaluate": TEST, "ingest": ROWS, "split": SPLIT, "train": TRAIN}.items():
        paths.METRICS.mkdir(exist_ok=True)
        (paths.METRICS / f"{name}.json").write_text(json.dumps(values))
    paths.FINDINGS.write_text(json.dumps(TOLD))
    tables.write_rows(paths.SPLITS, [], schema.SPLIT)
    tables.write_rows(paths.SAMPLES, [], schema.SAMPLES)
    cards, used = [], []
    for asked in ("false", "true"):
        paths.PARAMS.write_text(f"card: {{latency: {asked}, threads: 1}}\n")
        bundle_stage.main()
        cards.append((paths.BUNDLE / bundle.CARD).read_text())
        used.append(
            {"mmpipe.latency", "mmpipe.model.network"}
            & code.fingerprints(tmp_path)["bundle"]["modules"].keys()
        )
    rows = re.findall(r"^\| (\d+) \| ([0-9.]+) \| \d+ \|", cards[1], re.MULTILINE)
    assert [int(size) for size, _ in rows] == [1, 8, 32, 128] and all(float(ms) > 0 for _, ms in rows)
    assert "| 128 |" not in cards[0] and [len(one) for one in used] == [0, 2]
