"""The page in a real browser: choose, drop, type, record, predict, read; by mouse and by keyboard."""

import base64
import re
from functools import partial

import browser
import pytest
import serving
import tiny_bundle
from browser import CHROMIUM, DRIVER

from mmpipe import paths
from mmpipe.answers import turns as dialogue
from mmpipe.predict import load
from mmpipe.serve import page
from mmpipe.serve.limits import Limits

needs_chromium = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")
TAB, SPACE, ENTER, CONTROL = "\ue004", " ", "\ue007", "\ue009"


def test_it_is_one_file_that_asks_for_nothing_from_outside():
    text = page.load().html.decode()
    assert not re.search(
        r"""(src|href)\s*=\s*["']?(?!data:)[^"'>\s]""", re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    )
    assert "http://" not in text and "https://" not in text and "@import" not in text
    assert not re.search(r"\son\w+=|style=|innerHTML|eval\(|document\.write", text)


def test_its_policy_names_exactly_its_own_blocks():
    found = page.load()
    assert found.policy.count("'sha256-") == 2
    assert "unsafe" not in found.policy and "*" not in found.policy
    assert found.html.decode().count("<script>") == found.html.decode().count("<style>") == 1


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    return root / paths.BUNDLE, tiny_bundle.write(root)


@pytest.fixture(scope="module")
def server(samples):
    with serving.running(samples[0], limits=Limits(workers=1)) as found:
        yield found


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def window(chromium, server):
    """The page, fresh; nothing went wrong on it but what the test looks at itself."""
    chromium.size(1200, 1000)
    chromium.open(server.url)
    assert serving.until(lambda: "sha256" in chromium.text("#model"))
    yield chromium
    assert chromium.console() == []


@pytest.fixture(scope="module")
def sample(samples):
    return next(one for one in samples[1].values() if len(one) == 3)


def rows(window, css):
    """[(name, figure)] of a list of bars."""
    cells = "(item) => [item.children[0].textContent, item.children[2].textContent]"
    script = f"return [...document.querySelectorAll(arguments[0] + ' li')].map({cells})"
    return [tuple(row) for row in window.run(script, css)]


def answered(window):
    assert serving.until(lambda: window.shown("#answer"), 20), window.text("#error")


def percent(x):
    return f"{100 * x:.1f} %"


def shown_as_it_is(window, wanted):
    """What the page shows is what the library says."""
    assert window.text("#label bdi") == wanted.label
    assert window.text("#label small") == percent(wanted.confidence)
    ranked = sorted(wanted.probabilities.items(), key=lambda pair: -pair[1])
    assert rows(window, "#chances") == [(label, percent(x)) for label, x in ranked]
    names = {"audio": "sound", "image": "picture", "text": "text"}
    signs = {m: ("−" if x < 0 else "+") + f"{100 * abs(x):.1f}" for m, x in wanted.contributions.items()}
    assert rows(window, "#shares") == [(names[m], figure) for m, figure in signs.items()]
    assert f"Model fusion · sha256 {wanted.bundle_sha256[:12]}" in window.text("#source")


@needs_chromium
def test_files_are_chosen_a_text_typed_and_the_answer_read(window, samples, sample):
    window.type("#image", str(sample["image"]))
    window.type("#audio", str(sample["audio"]))
    window.type("#text", sample["text"])
    assert window.shown("#image-shown") and window.shown("#audio-shown")
    assert sample["image"].name in window.text("#image-name")
    window.click("#go")
    answered(window)
    shown_as_it_is(window, load(samples[0], device="cpu").explain(**sample))
    window.click("#image-clear")
    window.click("#audio-clear")
    assert not window.shown("#image-shown") and "choose" in window.text("#image-name")
    window.click("#go")
    assert serving.until(lambda: window.text("#source").endswith("from text"))
    shown_as_it_is(window, load(samples[0], device="cpu").explain(text=sample["text"]))


DROP = """
const [css, name, type, content] = arguments;
const file = new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name, { type });
const dataTransfer = new DataTransfer();
dataTransfer.items.add(file);
for (const kind of ["dragenter", "dragover", "drop"])
  document.querySelector(css).dispatchEvent(
    new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer }));
"""


@needs_chromium
def test_files_are_dropped(window, samples, sample):
    for css, kind, mime in (("body", "image", "image/png"), ("#audio-field", "audio", "")):
        content = base64.b64encode(sample[kind].read_bytes()).decode()
        window.run(DROP, css, sample[kind].name, mime, content)
        assert sample[kind].name in window.text(f"#{kind}-name")
    window.click("#go")
    answered(window)
    wanted = load(samples[0], device="cpu").explain(image=sample["image"], audio=sample["audio"])
    shown_as_it_is(window, wanted)


@needs_chromium
def test_what_is_no_picture_is_explained(window, tmp_path):
    window.run(DROP, "body", "notes.txt", "text/plain", "eA==")
    assert "neither a picture nor a recording" in window.text("#error")
    (tmp_path / "page.jpg").write_text("<html><script>document.title = 'owned'</script></html>")
    window.type("#image", str(tmp_path / "page.jpg"))
    window.click("#go")
    assert serving.until(lambda: "image-not" in window.text("#error"))
    assert "looks like HTML" in window.text("#error") and "Fix" not in window.text("#error")
    assert window.run("return document.title") == "mmpipe: try the model"
    assert any("422" in line for line in window.console())


@needs_chromium
def test_nothing_given_is_explained(window):
    window.click("#go")
    assert serving.until(lambda: "row-empty" in window.text("#error"))
    assert any("4" in line for line in window.console())


@needs_chromium
def test_sound_is_recorded_as_a_wav_that_the_server_reads(window, server):
    """From Chromium's false microphone, which beeps."""
    window.click("#record")
    assert serving.until(lambda: window.text("#record") == "Stop")
    assert serving.until(lambda: float((window.text("#record-note") or "0").split()[0]) > 0.5)
    window.click("#record")
    assert window.text("#record") == "Record"
    assert serving.until(lambda: window.shown("#audio-shown"))
    assert "recording.wav" in window.text("#audio-name")
    window.click("#go")
    answered(window)
    assert window.text("#source").endswith("from sound")
    head = window.run("return chosen.audio.slice(0, 44).arrayBuffer().then(x => [...new Uint8Array(x)])")
    assert bytes(head[:4]) == b"RIFF" and bytes(head[8:16]) == b"WAVEfmt "
    peak = window.run(
        "return chosen.audio.slice(44).arrayBuffer().then(x => Math.max(...new Int16Array(x).map(Math.abs)))"
    )
    assert peak > 300
    window.console()  # that ScriptProcessor is old


@needs_chromium
def test_the_keyboard_alone_will_do(window, samples):
    reached = []
    for _ in range(8):
        window.keys(TAB)
        reached.append(window.run("return document.activeElement.id"))
    assert [name for name in reached if name][:5] == ["image", "text", "audio", "record", "go"]
    window.run("document.getElementById('text').focus()")
    window.keys(*"one")
    window.keys(TAB, TAB, TAB, ENTER)
    answered(window)
    shown_as_it_is(window, load(samples[0], device="cpu").explain(text="one"))
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert window.run(outline) == "solid"


@needs_chromium
def test_a_browser_gives_the_token_as_a_password(chromium, samples):
    token = "correct-horse-battery"
    with serving.running(samples[0], limits=Limits(workers=1), token=token.encode()) as server:
        chromium.open(f"http://me:{token}@127.0.0.1:{server.port}/")
        chromium.type("#text", "one")
        chromium.click("#go")
        answered(chromium)
        shown_as_it_is(chromium, load(samples[0], device="cpu").explain(text="one"))
    chromium.console()  # that it tried without, at first


@needs_chromium
def test_names_of_strangers_are_text_only(window, tmp_path, sample):
    name = "<img src=x onerror=alert(1)>.png"
    (tmp_path / name).write_bytes(sample["image"].read_bytes())
    window.type("#image", str(tmp_path / name))
    assert name in window.text("#image-name")
    assert window.run("return document.querySelectorAll('#image-name *').length") == 0


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 420])
def test_it_fits_and_can_be_read(window, sample, dark, width):
    """Nothing is wider than the window, and text stands out from what it is on (WCAG 2.1, 1.4.3)."""
    window.dark(dark)
    window.size(width, 900)
    window.type("#image", str(sample["image"]))
    window.type("#text", "x" * 200)
    window.click("#go")
    answered(window)
    assert window.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    for css in ("h1", "#model", "#go", "#label", "#sum", "#source", "#text", ".drop", "#chances li .figure"):
        assert contrast(*window.run(COLOURS, css)) >= 4.5, css
    window.dark(False)


COLOURS = """
let at = document.querySelector(arguments[0]);
const ink = getComputedStyle(at).color;
while (at && /, 0\\)$|transparent/.test(getComputedStyle(at).backgroundColor)) at = at.parentElement;
return [ink, getComputedStyle(at).backgroundColor];
"""


def contrast(one, other):
    """The ratio of WCAG 2.1 of two colours `rgb(r, g, b)`."""

    def luminance(colour):
        parts = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
        linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@needs_chromium
@pytest.mark.parametrize("task", ["answer", "multilabel", "regress", "retrieve"])
def test_every_task_is_shown(chromium, tmp_path, task):
    """What the answer is, and what it is made of, where there is such a thing."""
    tiny_bundle.write(tmp_path, task=task)
    found = load(tmp_path / paths.BUNDLE, device="cpu")
    with serving.running(tmp_path / paths.BUNDLE, limits=Limits(workers=1)) as server:
        chromium.open(server.url)
        assert serving.until(lambda: "sha256" in chromium.text("#model"))
        chromium.type("#text", "a low one")
        chromium.click("#go")
        answered(chromium)
        head = chromium.text("#label bdi")
        if task == "retrieve":
            assert head == "An embedding of 12 numbers" and not chromium.shown("#why")
            return
        if task == "answer":
            said = found.predict(text="a low one")
            assert head == (said.answer or "(no word)") and not chromium.shown("#why")
            shown = [(answer, percent(chance)) for answer, chance in said.alternatives.items()]
            assert rows(chromium, "#chances") == shown and chromium.console() == []
            return
        wanted = found.explain(text="a low one")
        if task == "regress":
            assert float(head) == pytest.approx(wanted.value, rel=1e-3)
            assert "In its unit: " in chromium.text("#sum")
        else:
            assert head == (", ".join(wanted.labels) or "no label")
            ranked = sorted(wanted.probabilities.items(), key=lambda pair: -pair[1])
            assert rows(chromium, "#chances") == [(label, percent(x)) for label, x in ranked]
        assert chromium.shown("#why") and len(rows(chromium, "#shares")) == 1
        assert chromium.console() == []


@needs_chromium
def test_a_transcript_is_shown_and_a_text_without_a_recording_explained(chromium, tmp_path):
    sample = next(one for one in tiny_bundle.write(tmp_path, task="transcribe").values() if "audio" in one)
    wanted = load(tmp_path / paths.BUNDLE, device="cpu").predict(audio=sample["audio"])
    with serving.running(tmp_path / paths.BUNDLE, limits=Limits(workers=1)) as server:
        chromium.open(server.url)
        assert serving.until(lambda: "sha256" in chromium.text("#model"))
        chromium.type("#text", "a low one")
        chromium.click("#go")
        assert serving.until(lambda: "row-lacks" in chromium.text("#error"))
        chromium.run("document.querySelector('#text').value = ''")
        chromium.type("#audio", str(sample["audio"]))
        chromium.click("#go")
        answered(chromium)
        assert chromium.text("#label bdi") == (wanted.text or "(nothing)") and wanted.text
        assert chromium.text("#label small") == percent(wanted.confidence) and not chromium.shown("#why")


def turns(window):
    """[(question, answer)] of the conversation that is shown."""
    texts = "(item) => [...item.children].map((one) => one.textContent)"
    script = f"return [...document.querySelectorAll('#talk li')].map({texts})"
    return [tuple(turn) for turn in window.run(script)]


def grown(window, before):
    return len(turns(window)) > before


@needs_chromium
def test_questions_and_answers_are_a_conversation(chromium, tmp_path):
    """Each question is asked behind those before it, until another picture comes or a new one is begun."""
    sample = next(
        one for one in tiny_bundle.write(tmp_path, task="answer", turns=1).values() if len(one) == 3
    )
    found, asked = load(tmp_path / paths.BUNDLE, device="cpu"), ["one?", "a <b>low</b> one?", "two?"]
    with serving.running(tmp_path / paths.BUNDLE, limits=Limits(workers=1)) as server:
        chromium.size(1200, 1000)
        chromium.open(server.url)
        assert serving.until(lambda: "sha256" in chromium.text("#model"))
        assert chromium.text("#text-legend") == "Question" and not chromium.shown("#talk")
        chromium.type("#image", str(sample["image"]))
        before = []
        for question in asked:
            chromium.type("#text", question)
            chromium.click("#go")
            assert serving.until(partial(grown, chromium, len(before)), 20), chromium.text("#error")
            wanted = found.predict(image=sample["image"], text=dialogue.join(before, question))
            shown = [(answer, percent(chance)) for answer, chance in wanted.alternatives.items()]
            assert rows(chromium, "#chances") == shown
            assert chromium.run("return document.querySelector('#text').value") == ""
            before.append((question, wanted.answer))
            assert turns(chromium) == [(question, answer or "(no word)") for question, answer in before]
        assert chromium.shown("#talk") and "reads the turn before" in chromium.text("#talk-row")
        chromium.run("document.querySelector('#text').value = 'x'.repeat(100001)")
        chromium.click("#go")
        assert serving.until(lambda: "text-too-long" in chromium.text("#error"))
        assert len(turns(chromium)) == len(asked) and any("422" in line for line in chromium.console())
        chromium.click("#talk-clear")
        assert turns(chromium) == [] and not chromium.shown("#talk-row")
        chromium.run("document.querySelector('#text').value = ''")
        chromium.type("#text", "one?")
        chromium.click("#go")
        assert serving.until(lambda: len(turns(chromium)) == 1)
        chromium.click("#image-clear")
        assert turns(chromium) == [] and chromium.console() == []


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 420])
def test_a_conversation_fits_and_can_be_read(chromium, tmp_path, dark, width):
    tiny_bundle.write(tmp_path, task="answer", turns=3)
    with serving.running(tmp_path / paths.BUNDLE, limits=Limits(workers=1)) as server:
        chromium.dark(dark)
        chromium.size(width, 900)
        chromium.open(server.url)
        assert serving.until(lambda: "sha256" in chromium.text("#model"))
        for _ in range(2):
            before = len(turns(chromium))
            chromium.type("#text", "x" * 200)
            chromium.click("#go")
            assert serving.until(partial(grown, chromium, before), 20)
        assert "reads the last 3 turns" in chromium.text("#talk-row")
        assert chromium.run(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
        for css in ("#talk .asks", "#talk .replies", "#talk-note", "#talk-clear"):
            assert contrast(*chromium.run(COLOURS, css)) >= 4.5, css
        chromium.dark(False)
