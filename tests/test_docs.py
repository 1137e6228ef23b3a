"""The documents say what the code does, or the build fails."""

import re
import subprocess
from pathlib import Path

import command_line
import pytest
import test_architecture as architecture
from ruamel.yaml import YAML
from test_errors import STATUSES

from mmpipe import __version__
from mmpipe.cli import app
from mmpipe.errors import FIXES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
ERRORS = (ROOT / "docs/errors.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS = {info.callback.__name__ for info in app.registered_commands}
MADE = {"dvc.lock", "data", "models", "metrics", "plots", "reports"}


def in_code(text: str) -> str:
    """What stands in fenced blocks and between backticks."""
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return "\n".join(
        [*fenced, *re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))]
    )


def table_rows(text: str) -> list[list[str]]:
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in lines]


def test_there_are_pages():
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "architecture.md"} <= {
        page.name for page in PAGES
    }


def test_layout_is_the_real_one():
    listed = {name.rstrip("/") for name in re.findall(r"^[├└]── (\S+)", README, re.MULTILINE)}
    shown = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    real = {Path(name).parts[0] for name in shown if (ROOT / name).exists()}
    assert real - listed == set(), "list them in the README's layout"
    assert listed - real - MADE == set(), "the README lists what is not there"


def test_every_command_named_is_there():
    named = [name for page in PAGES for name in re.findall(r"\bmmpipe ([a-z]+)\b", in_code(page.read_text()))]
    assert len(named) > 10
    assert set(named) - COMMANDS == set()
    assert COMMANDS - set(re.findall(r"mmpipe ([a-z]+)", README)) <= {"params", "version"}


def examples() -> list[str]:
    lines = [line for page in PAGES for line in in_code(page.read_text()).splitlines()]
    found = sorted({re.split(r"\s#", line)[0].strip() for line in lines if re.match(r"mmpipe [a-z]+ ", line)})
    return [line for line in found if "…" not in line]


@pytest.mark.parametrize("example", examples())
def test_every_example_parses(example):
    """Options, arguments and their types are those of the command."""
    assert command_line.parse(example) in COMMANDS


def test_there_are_examples():
    assert len(examples()) > 5


def test_every_make_target_named_is_there():
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"\bmake ([a-z-]+)", in_code(page.read_text()))}
    assert {"repro", "test"} <= named
    assert named - there == set()


def test_first_screen_has_the_two_commands():
    screen = README.splitlines()[:15]
    assert any(line.startswith("make repro") for line in screen)
    assert any(line.startswith("make test") for line in screen)


def test_error_index_is_the_table_of_fixes():
    rows = {
        row[0].strip("`"): row[1] for row in table_rows(ERRORS.split("## Codes")[1]) if row[0].startswith("`")
    }
    missing = [f"| `{code}` | {fix} |" for code, fix in FIXES.items() if rows.get(code) != fix]
    assert not missing, "\n".join(["put into docs/errors.md:", *missing])
    assert set(rows) - set(FIXES) == set()


def test_exit_statuses_are_the_classes_own():
    rows = table_rows(ERRORS.split("## Exit statuses")[1].split("## Codes")[0])
    found = {row[2].strip("`"): int(row[0]) for row in rows if row[0].isdigit() and row[2]}
    assert found == STATUSES
    assert {0, 130, 143} <= {int(row[0]) for row in rows if row[0].isdigit()}


def test_every_module_has_its_line_and_layer():
    rows = table_rows(ARCHITECTURE.split("## Modules")[1])
    found = {row[1].strip("`"): int(row[0]) for row in rows if row[0].isdigit()}
    wanted = {module: architecture.layer_of(module) for module in architecture.MODULES}
    missing = [f"| {layer} | `{name}` | … |" for name, layer in wanted.items() if found.get(name) != layer]
    assert not missing, "\n".join(["put into docs/architecture.md:", *missing])
    assert set(found) - set(wanted) == set()


def test_stages_are_those_of_the_pipeline():
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    rows = table_rows(ARCHITECTURE.split("## The way of a sample")[1].split("## Laws")[0])
    found = {row[0].strip("`"): row[1] for row in rows if row[0].startswith("`")}
    assert found == {name: stage.get("do", stage)["desc"] for name, stage in stages.items()}


def test_changelog_starts_with_this_version():
    first = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first and first[1] == __version__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    inner = [link for link in links if "://" not in link]
    assert [link for link in inner if not (page.parent / link).exists()] == []


def test_decisions_are_numbered_without_gaps():
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert len(pages) >= 3
    for number, page in enumerate(pages, 1):
        assert page.name.startswith(f"{number:04}-")
        assert page.read_text().startswith(f"# {number}. ")


def test_constraints_are_within_the_declared_ranges():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    extras = project["optional-dependencies"]
    declared = [
        Requirement(text)
        for text in (*project["dependencies"], *extras["stamps"], *extras["serve"], *extras["dev"])
    ]
    assert len(declared) > 20
    for requirement in declared:
        names = {requirement.name.lower(), requirement.name.lower().replace("-", "_")}
        [version] = [pinned[name] for name in names if name in pinned]
        assert requirement.specifier.contains(version), requirement
