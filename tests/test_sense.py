"""Combinations that make no sense are refused by name, with their place in the file."""

import pytest

from mmpipe import params, sense
from mmpipe.errors import InvalidError
from mmpipe.params import Params
from mmpipe.tasks import task


def refusal(folder, text):
    path = folder / "params.yaml"
    path.write_text(text)
    with pytest.raises(InvalidError) as caught:
        params.load(path)
    assert caught.value.code == "params"
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "model:\n  task: multilabel\n",
            "1:1 data.target: label makes no sense with model.task: multilabel, set it to labels",
        ),
        (
            "data: {target: labels}\n",
            "1:8 data.target: labels makes no sense with model.task: classify, set it to label",
        ),
        (
            "data: {target: labels}\nmodel: {task: multilabel}\ntrain:\n  class_weights: effective\n",
            "4:3 train.class_weights: effective makes no sense with model.task: multilabel, "
            "set it to none or inverse",
        ),
        (
            "gate: {metric: micro_f1}\n",
            "1:8 gate.metric: micro_f1 makes no sense with model.task: classify, which has "
            "auto, accuracy, macro_f1, nll",
        ),
        (
            "data: {columns: {target: null}}\n",
            "data: columns.target: null needs target: none, not 'label'",
        ),
        (
            "data: {target: number}\nmodel: {task: regress}\ntrain:\n  label_smoothing: 0.1\n",
            "4:3 train.label_smoothing: 0.1 makes no sense with model.task: regress, set it to 0",
        ),
        (
            "data: {target: number}\nmodel: {task: regress}\ntrain:\n  class_weights: inverse\n",
            "4:3 train.class_weights: inverse makes no sense with model.task: regress, set it to none",
        ),
        (
            "data: {target: labels}\nmodel: {task: multilabel}\ntrain: {sampling: balanced}\n",
            "3:9 train.sampling: balanced makes no sense with model.task: multilabel, set it to natural",
        ),
        (
            "data: {target: number}\nmodel: {task: regress}\nobjective: {focal: 2}\n",
            "3:13 objective.focal: 2 makes no sense with model.task: regress, set it to 0",
        ),
        (
            "data: {target: none}\nmodel: {task: retrieve, fusion: gated}\n",
            "2:25 model.fusion: gated makes no sense with model.task: retrieve, set it to concat",
        ),
        (
            "data:\n  columns: {history: before}\n",
            "2:13 data.columns.history: before needs text.turns: without it a dialogue that is too long "
            "loses its end, the question",
        ),
        (
            "text: {turns: 3}\n",
            "1:8 text.turns: 3 has no earlier turns to keep: set data.columns.history, or text.turns to null",
        ),
        (
            "train: {regression: mse}\n",
            "1:9 train.regression: mse makes no sense with model.task: classify, set it to huber",
        ),
        (
            "data: {target: none}\nmodel: {task: retrieve, image: none, text: none}\n",
            "2:9 model.task: retrieve needs two encoders, there is audio alone",
        ),
        (
            "data: {target: none}\nmodel: {task: retrieve}\ntrain: {auxiliary: 0.5, label_smoothing: 0.1}\n",
            "3:9 train.auxiliary: 0.5 makes no sense with model.task: retrieve, set it to 0",
        ),
        (
            "image: {pretrained: data/raw/a}\ntext: {pretrained: data/raw/b}\n"
            "model: {image: pretrained, text: pretrained, audio: none, fusion: attention}\n",
            "3:59 model.fusion: attention needs the steps of a modality: "
            "frozen weights are stored as one vector a sample, "
            "set it to concat or image.frozen or text.frozen to false",
        ),
        (
            "audio: {pretrained: data/raw/a}\n"
            "model: {image: none, text: none, audio: pretrained, fusion: attention}\n",
            "model.fusion: attention needs the steps of a modality: "
            "frozen weights are stored as one vector a sample, set it to concat or audio.frozen to false",
        ),
        (
            "data: {target: text}\naudio: {pretrained: data/raw/a}\n"
            "model: {task: transcribe, image: none, text: none, audio: pretrained}\n",
            "2:1 audio.frozen: true makes no sense with model.task: transcribe, which hears step by step: "
            "frozen weights are stored as one vector a sample, set it to false",
        ),
        (
            "data: {target: text}\nmodel: {task: transcribe, text: none, image: cnn}\n",
            "2:39 model.image: cnn makes no sense with model.task: transcribe, set it to none",
        ),
        (
            "data: {target: text}\nmodel: {task: transcribe, image: none}\n",
            "model.text: gru makes no sense with model.task: transcribe, set it to none or words",
        ),
        (
            "data: {target: text}\nmodel: {task: transcribe, image: none, text: none, audio: none}\n",
            "at least one encoder is needed",
        ),
        (
            "data: {target: text}\nmodel: {task: transcribe, image: none, text: words, audio: none}\n",
            "2:53 model.audio: none makes no sense with model.task: transcribe, set it to cnn or crnn or",
        ),
        (
            "audio: {pretrained: data/raw/w, frozen: false}\nmodel: {audio: pretrained}\n"
            "augment: {audio_mel_mask: 0}\n",
            "3:1 augment.audio_gain: must be 0 where audio.frozen is false, as the weights read the wave, "
            "for which it means nothing",
        ),
        (
            "data: {target: text}\nmodel: {task: transcribe, image: none, text: none}\n"
            "train: {modality_dropout: 0.3}\n",
            "3:9 train.modality_dropout: 0.3 makes no sense with model.task: transcribe, set it to 0",
        ),
        (
            "data: {target: text}\n"
            "model: {task: transcribe, image: none, text: words, output: {decoding: greedy}}\n",
            "2:40 model.text: words is of no use to model.output.decoding: greedy, "
            "set one of them to none or beam",
        ),
        (
            "model: {text: words}\n",
            "1:9 model.text: words makes no sense with model.task: classify, which does not decode with them",
        ),
        (
            "model: {output: {order: 3}}\n",
            "1:18 model.output.order: 3 makes no sense with model.task: classify, which predicts no text",
        ),
        (
            "data: {target: text}\nmodel: {task: transcribe, image: none, text: none}\n"
            "gate: {metric: accuracy}\n",
            "3:8 gate.metric: accuracy makes no sense with model.task: transcribe, which has auto, wer, cer",
        ),
        (
            "data: {target: text}\nmodel: {task: answer, fusion: stacking}\n",
            "2:23 model.fusion: stacking joins each modality's own answer, and answers in words cannot be "
            "averaged: set it to concat, gated, attention or lowrank",
        ),
        (
            "data: {target: text}\nmodel: {task: answer, decoder: {heads: 5}}\n",
            "model.decoder.heads: 5 does not divide model.dim, 96",
        ),
        (
            "data: {target: text}\nmodel: {task: answer, output: {units: bpe, decoding: greedy}}\n",
            "model.output.decoding: means nothing to model.task: answer, which has model.decoder: "
            "set it to beam",
        ),
        (
            "data: {target: text}\nmodel: {task: answer}\nobjective: {weights: uncertainty}\n",
            "3:13 objective.weights: uncertainty has but one loss to weigh",
        ),
        (
            "model: {decoder: {search: beam}}\n",
            "1:19 model.decoder.search: beam makes no sense with model.task: classify, which has no decoder",
        ),
        (
            "model: {task: answer}\n",
            "data.target: label makes no sense with model.task: answer, set it to text",
        ),
        (
            "data: {target: text}\nmodel: {task: answer}\ntrain: {auxiliary: 0.5, label_smoothing: 0.1}\n",
            "3:9 train.auxiliary: 0.5 makes no sense with model.task: answer, set it to 0",
        ),
        ("model: {task: clasify}\n", "not 'clasify', did you mean 'classify'?"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path, text, words):
    assert words in refusal(tmp_path, text)


def test_all_of_them_come_at_once(tmp_path):
    words = refusal(tmp_path, "gate: {metric: mae}\ndata: {target: number}\n")
    assert "1:8 gate.metric" in words and "2:8 data.target" in words


def test_what_the_file_does_not_name_is_no_contradiction(tmp_path):
    """The default label smoothing is for labels; a task without labels takes no notice."""
    (tmp_path / "params.yaml").write_text("data: {target: number}\nmodel: {task: regress}\n")
    assert params.load(tmp_path / "params.yaml").model.task == "regress"


def test_earlier_turns_and_how_many_of_them_are_kept_go_together(tmp_path):
    (tmp_path / "params.yaml").write_text("data: {columns: {history: before}}\ntext: {turns: 0}\n")
    assert params.load(tmp_path / "params.yaml").text.turns == 0


def test_params_and_tasks_are_the_same():
    """Every task has a name in params.yaml, a kind of target, and the metrics of its rules."""
    allowed = Params.model_json_schema()["$defs"]["Model"]["properties"]["task"]["enum"]
    assert (
        sorted(allowed)
        == task.names()
        == sorted(sense.KINDS)
        == sorted(sense.METRICS)
        == sorted(sense.ALLOWED)
    )
    for name in allowed:
        one = task.load(name)
        assert one.kind == sense.KINDS[name]
        assert tuple(one.rules.measures) == sense.METRICS[name]
        assert one.rules.headline == sense.METRICS[name][0]
        assert one.rules.lower <= set(one.rules.measures)
