"""Earlier turns over HTTP: as the command and a manifest have them, refused by name where they are none."""

import json

import pytest
import serving
import tiny_bundle
from serving import FORM, refused, send
from typer.testing import CliRunner

from mmpipe import paths
from mmpipe.answers import turns
from mmpipe.cli import app
from mmpipe.predict import load
from mmpipe.serve.limits import Limits

HISTORY = [["what  is it?", "a low one"], ["is it\nhigh?", "no, „thin“"], ["spoken?", ""]]
QUESTION = "a long sentence?"
LIMITS = Limits(workers=1, max_text_bytes=3_000, max_turns=20)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Its folder and a picture, of a model that reads one turn before the question."""
    root = tmp_path_factory.mktemp("workspace")
    samples = tiny_bundle.write(root, task="answer", turns=1)
    return root / paths.BUNDLE, next(one for one in samples.values() if len(one) == 3)["image"]


@pytest.fixture(scope="module")
def predictor(model):
    return load(model[0], device="cpu")


@pytest.fixture(scope="module")
def server(model):
    with serving.running(model[0], limits=LIMITS) as found:
        yield found


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Of a model whose texts are no dialogues."""
    root = tmp_path_factory.mktemp("plain")
    tiny_bundle.write(root)
    with serving.running(root / paths.BUNDLE, limits=LIMITS) as found:
        yield found


def said(found):
    """As JSON carries it."""
    return json.loads(json.dumps(vars(found)))


def test_turns_are_read_before_the_question_whichever_way_they_come(server, model, predictor):
    """As the list itself, as its text, in a form; and as `mmpipe predict` has them."""
    folder, picture = model
    wanted = said(predictor.predict(text=turns.join(HISTORY, QUESTION)))
    asked = {"text": QUESTION}
    ways = [
        server.client.post("/predict", json=asked | {"history": HISTORY}),
        server.client.post("/predict", json=asked | {"history": json.dumps(HISTORY)}),
        server.predict(text=QUESTION, history=json.dumps(HISTORY, indent=1)),
    ]
    assert [way.json() for way in ways] == [wanted] * 3
    command = [
        "predict",
        "--model",
        str(folder),
        "--text",
        QUESTION,
        "--history",
        json.dumps(HISTORY),
        "--json",
    ]
    assert json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout) == wanted
    assert wanted != said(predictor.predict(text=QUESTION))
    both = server.predict({"image": picture, "text": QUESTION}, history=json.dumps(HISTORY)).json()
    assert both == said(predictor.predict(image=picture, text=turns.join(HISTORY, QUESTION)))


def test_the_model_reads_as_many_as_it_was_trained_with(server):
    def told(history):
        return server.client.post("/predict", json={"text": "e", "history": history}).json()

    last, alone = ["a one", "two"], told([["a one", "two"]])
    assert told([["c", "d"], last]) == told([["e", "f"], last]) == alone
    assert alone not in (told([["f", "b"]]), told([]))


@pytest.mark.parametrize("nothing", [None, [], "", " [ ] "])
def test_no_turns_are_the_question_alone(server, plain, nothing):
    for one in (server, plain):
        wanted = one.client.post("/predict", json={"text": QUESTION}).json()
        assert one.client.post("/predict", json={"text": QUESTION, "history": nothing}).json() == wanted
    assert server.predict(text=QUESTION, history=nothing or "").status_code == 200


def test_a_model_without_turns_says_so(plain):
    what = refused(plain.client.post("/predict", json={"text": "a", "history": HISTORY}), 422, "http-history")
    assert what == "fusion was trained without earlier turns"
    refused(plain.predict(text="a", history=json.dumps(HISTORY)), 422, "http-history")
    assert plain.client.get("/healthz").json()["turns"] is None


def test_health_and_schema_tell_of_turns(server):
    assert server.client.get("/healthz").json()["turns"] == 1
    schema = server.client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    of_json = schema["application/json"]["schema"]["properties"]["history"]
    assert of_json["type"] == ["array", "string", "null"] and of_json["items"]["minItems"] == 2
    assert schema["multipart/form-data"]["schema"]["properties"]["history"] == {"type": "string"}


MALFORMED = {
    "{}": "no list of [question, answer]: '{' at character 25, not '['",
    "[1]": "no list of [question, answer]: '1' at character 26, not '['",
    '["a", "b"]': "not '['",
    '[["a"]]': "']' at character 30, not ','",
    '[["a", "b", "c"]]': "',' at character 35, not ']'",
    '[["a", 1]]': "no list of [question, answer]: '1' at character 32",
    '[["a", null]]': "'n' at character 32",
    '[["a", "b"],]': "']' at character 37, not '['",
    '[["a", "b"]': "'}' at character 36, not ','",
    '[["a", "b"] ["c", "d"]]': "'[' at character 37, not ','",
    '[["a", "b]]': "Unterminated",
    "7": "no JSON object of texts: '7'",
    "[" * 200_000: "'[' at character 27",
    "[[[[],[]]]]": "'[' at character 27",
}


@pytest.mark.parametrize("history", MALFORMED)
def test_a_list_that_is_none_is_refused_at_its_first_fault(server, history):
    body = b'{"text": "a", "history": ' + history.encode() + b"}"
    if history == "{}":
        assert "no JSON object of texts: '{' at" in refused(
            send(server, body, "application/json"), 400, "http-body"
        )
        return
    assert MALFORMED[history] in refused(send(server, body, "application/json"), 400, "http-body")
    assert server.predict(text=b"one").status_code == 200


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ("[[", "history has earlier turns that are no JSON: '[['"),
        ("hello", "no JSON"),
        ("{}", "no list of [question, answer]"),
        ('[["a"]]', "no list of [question, answer]"),
        ('[["a", 1]]', "no list of [question, answer]"),
        ("[" * 2_900, "no JSON"),
    ],
)
def test_a_text_that_is_no_list_is_refused_in_the_same_words_as_by_the_command(server, model, history, words):
    asked = [
        server.predict(text="a", history=history),
        server.client.post("/predict", json={"text": "a", "history": history}),
    ]
    assert len({refused(one, 400, "http-body") for one in asked}) == 1
    assert words in asked[0].json()["what"]
    command = ["predict", "--model", str(model[0]), "--text", "a", "--history", history]
    assert f"--{asked[0].json()['what']}" in CliRunner().invoke(app, command).stderr


@pytest.mark.parametrize("given", [{}, {"text": ""}, {"text": " \n"}, {"text": None}])
def test_turns_need_a_question(server, given):
    asked = server.client.post("/predict", json=given | {"history": HISTORY})
    assert refused(asked, 400, "http-body") == "history needs text, the question that comes next"


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ([["a", "b"]] * 21, "history has more than the 20 turns that are allowed"),
        ([["a", "b" * 3_000]], "history is larger than the 3,000 bytes that are allowed"),
    ],
)
def test_turns_have_their_limits(server, history, words):
    several = [
        server.client.post("/predict", json={"text": "a", "history": history}),
        server.client.post("/predict", json={"text": "a", "history": json.dumps(history)}),
        server.predict(text="a", history=json.dumps(history)),
    ]
    assert [refused(one, 413, "http-too-large") for one in several] == [words] * 3
    fits = {"text": "a", "history": [["a", "b"]] * 20}
    assert server.client.post("/predict", json=fits).status_code == 200


def test_the_whole_dialogue_is_judged_as_a_text(model, server):
    for odd in (rb"\u0000", rb"\ud800"):
        body = b'{"text": "a", "history": [["a", "' + odd + b'"]]}'
        refused(send(server, body, "application/json"), 422, "text-control")
    with serving.running(model[0], limits=Limits(workers=1)) as roomy:
        long = {"text": "a", "history": [["a" * 50_000, "b" * 50_000]]}
        assert "100,012 characters" in refused(roomy.client.post("/predict", json=long), 422, "text-too-long")


def test_two_histories_are_one_too_many(server):
    part = b'--xx\r\nContent-Disposition: form-data; name="history"\r\n\r\n[]\r\n'
    assert "two parts named 'history'" in refused(send(server, part * 2 + b"--xx--", FORM), 400, "http-body")


def test_the_command_refuses_turns_that_a_model_does_not_read(tmp_path):
    tiny_bundle.write(tmp_path)
    command = [
        "predict",
        "--model",
        str(tmp_path / paths.BUNDLE),
        "--text",
        "a",
        "--history",
        json.dumps(HISTORY),
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2 and "fusion was trained without earlier turns" in done.stderr
    blank = CliRunner().invoke(app, [*command[:4], " ", *command[5:]])
    assert blank.exit_code == 2 and "--history needs --text" in blank.stderr
    (tmp_path / "t.csv").write_text('id,text,before\n1,one,"[[""a"", ""b""]]"\n')
    table = ["predict", *command[1:3], str(tmp_path / "t.csv"), "-o", str(tmp_path / "out.csv")]
    table += [part for one in ("image=", "audio=", "history=before") for part in ("--column", one)]
    refusal = CliRunner().invoke(app, table)
    assert refusal.exit_code == 2 and "give --column history=" in refusal.stderr
    done = CliRunner().invoke(app, [*table, "--column", "history="])
    assert done.exit_code == 0 and done.stdout.startswith("1 rows = 1 predicted")
