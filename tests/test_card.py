"""The model card: Hugging Face's own parser reads it, and no label can write into it."""

import json

import pytest
from huggingface_hub import ModelCard

from mmpipe import card, findings, label_findings, scorecard

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
