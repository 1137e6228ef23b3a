"""What differs, as a page: it runs nothing, loads nothing and leaves nothing out."""

import json
import re
from html.parser import HTMLParser

import pytest
import tiny_versions
from tiny_versions import call, compare

from mmpipe.compare import page, text

EVIL = '<script>alert("x")</script>\u202e\x1b[31m'


@pytest.fixture
def old(tmp_path):
    return tiny_versions.write(tmp_path / "old")


@pytest.fixture
def new(tmp_path):
    return tiny_versions.write_changed(tmp_path / "new")


class Elements(HTMLParser):
    """Start tags with their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "path", "use", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def hostile(tmp_path):
    """Labels, ids and parameters that are markup and escapes."""
    rows = {f"{EVIL}{n}": (EVIL, "test", EVIL if n else "bass", f"i{n}", EVIL, None) for n in range(3)}
    params = f"train:\n  note: {json.dumps(EVIL)}\n"
    return tiny_versions.write(tmp_path / "hostile", rows, params=params, recalls={EVIL: 0.25})


def test_page_runs_nothing_and_loads_nothing(old, hostile):
    html = page.render(compare(old, hostile))
    found = Elements(html)
    assert found.open == []
    assert not {"script", "iframe", "object", "embed", "link", "base", "img"} & {tag for tag, _ in found.tags}
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    targets = [a[name] for _, a in found.tags for name in ("href", "src") if name in a]
    assert targets and all(target.startswith("#") for target in targets)
    assert not re.search(r"https?:|@import|url\((?!#)", html)
    assert not set("\u202e\x1b") & set(html)
    assert "".join(found.words).count("<script>alert") >= 6  # as words
    assert html == page.render(compare(old, hostile))


def test_page_has_every_section_and_number(old, new):
    found = compare(old, new)
    words = "".join(Elements(page.render(found)).words)
    for line in text.lines(found):
        lead = line.partition(":")[2].strip()
        if line[0] != " " and lead:
            assert lead in words or line.startswith(str(old))
    assert "0.750 [0.650, 0.850]" in words and "+0.250" in words
    assert "Accuracy of each subset" in page.render(found)


def test_the_command_prints_text_json_and_page(old, new, hostile, tmp_path):
    assert "train.lr" in call(old, new).stdout
    html = tmp_path / "pages/out.html"
    done = call(old, new, "--json", "--html", html)
    assert json.loads(done.stdout) == json.loads(json.dumps(compare(old, new)))
    assert html.read_text() == page.render(compare(old, new))
    assert not set("\u202e\x1b") & set(call(old, hostile).stdout)
    assert call(old, "nowhere").exit_code == 3
