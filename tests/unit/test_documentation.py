"""What the README and the documents that it links say is so: files, commands, codes, messages."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import click
import pytest

import mountkit
import pictures
from mountkit import errors
from mountkit.cli import COMMANDS
from mountkit.config.settings import Settings
from mountkit.spec import LARGEST_FILE_BYTES

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TESTS = ROOT / "tests" / "README.md"
DOCUMENTS = [
    README,
    TESTS,
    *(ROOT / "mountkit").rglob("*.md"),
    *(ROOT / "tests" / "mount_s3").glob("*.md"),
]
#: What the table of exit codes has beside the errors' own: no error, and ends that click makes.
OTHER_CODES = {0, 1, 130, 141}
#: Of torchrun and of apptainer, in examples.
OF_COMMANDS = {"--nproc-per-node", "--nv", "--bind", "--output_dir"}
#: Docker's options, and the one that every command has.
OTHERS_OPTIONS = {"--device", "--cap-add", "--help", *OF_COMMANDS}
#: Said by Mountpoint, in the log of its daemon.
DAEMONS_MESSAGES = {"object exceeded maximum upload size"}
PATH = re.compile(r"(?<![\w/])(?:mountkit|tests|\.ci)/[\w./]*\w")
SPAN = re.compile(r"`([^`]+)`")


def section(document: Path, heading: str) -> str:
    """The text under a heading, up to the next one."""
    found = re.split(rf"^#+ {re.escape(heading)}$", document.read_text(), flags=re.MULTILINE)
    assert len(found) == 2, f"{document} has no heading {heading!r}"
    return re.split(r"^#+ ", found[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a text's table, without its head."""
    table = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in table[1:]]


def spans(text: str) -> list[str]:
    return SPAN.findall(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(document: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def said() -> list[str]:
    """Every string of the package; what is filled in is an ellipsis."""
    found = []
    for path in (ROOT / "mountkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                ]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def wordings(message: str) -> re.Pattern[str]:
    """A message as the package may have it: whole, or with one of its words filled in."""
    words = [".*" if word == "…" else re.escape(word) for word in message.split()]
    filled = (["…" if word == one else word for word in words] for one in words)
    return re.compile("|".join(map(" ".join, [words, *filled])))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_leads_somewhere(document: Path):
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{document} links {target}"
        assert not anchor or anchor in anchors(path), f"{document} links {target}"


def test_each_path_that_is_named_is_there():
    named = {path for document in DOCUMENTS for path in PATH.findall(document.read_text())}
    assert "mountkit/supervision/health.py" in named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_each_document_is_linked_from_the_readme():
    linked = {
        (ROOT / target.partition("#")[0]).resolve()
        for target in re.findall(r"\]\(([^)]+)\)", README.read_text())
    }
    assert {path for path in DOCUMENTS if "mount_s3" not in path.parts} - linked == {README}


def test_the_commands_are_the_programs():
    named = [SPAN.findall(row[0])[0].split()[1] for row in rows(section(README, "Use it"))]
    assert sorted(named) == sorted(COMMANDS)


def test_the_options_are_the_programs():
    known = {
        option
        for name in COMMANDS
        for parameter in import_module(f"mountkit.cli.{name}").command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    prose = "\n".join(
        document.read_text() for document in DOCUMENTS if ROOT / "tests" not in document.parents
    )
    own = [span for span in spans(prose) if span.startswith(("--", "mountkit "))]
    named = {word for span in own for word in re.findall(r"(?<!\S)--[a-z][\w-]*", span)}
    assert "--grace" in named
    assert named - known - OTHERS_OPTIONS == set()


def test_the_exit_codes_are_the_errors():
    told = {int(code) for row in rows(section(README, "Exit codes")) for code in row[0].split(", ")}
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    own = {each.exit_code for each in classes if issubclass(each, errors.MountkitError)}
    assert told == own | OTHER_CODES


def test_the_settings_and_their_defaults_are_those_of_the_code():
    told = {}
    for names, default, _ in rows(section(ROOT / "mountkit" / "config" / "README.md", "Settings")):
        told.update(dict.fromkeys(SPAN.findall(names), default))
        if re.fullmatch(r"[\d.]+ s, [\d.]+ s", default):
            told.update(zip(SPAN.findall(names), default.split(", "), strict=True))
    assert told.keys() == {field.name for field in fields(Settings)}
    for field in fields(Settings):
        name = field.name
        if isinstance(field.default, float):
            assert told[name] == f"{field.default:g} s"
        elif isinstance(field.default, int) and name != "largest_file":
            assert told[name] == str(field.default)
        elif isinstance(field.default, str):
            assert told[name] == field.default
    assert told["largest_file"] == f"{LARGEST_FILE_BYTES / 1e9:g} GB"


def test_each_message_is_one_of_the_programs():
    known = said()
    tables = section(README, "Troubleshooting") + section(
        ROOT / "mountkit" / "proof" / "README.md", "Messages about files"
    )
    told = {span for row in rows(tables) for span in SPAN.findall(row[0])}
    assert len(told) > 40
    for message in sorted(told - DAEMONS_MESSAGES):
        assert any(map(wordings(message).search, known)), message


def test_the_python_of_the_readme_is_the_programs():
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    names = {
        node.attr
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "mountkit"
    }
    assert names == {"mount", "CheckpointCallback"}
    # The names that are there, and nothing loaded: that would be torch.
    assert names <= {*mountkit.__all__}
    assert "`mountkit.errors.NotDurableError`" in README.read_text()
    assert hasattr(errors, "NotDurableError")


def test_the_table_of_the_folders_is_what_lint_checks():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [each["layers"] for each in contracts["contracts"] if each["type"] == "layers"]
    told = [SPAN.findall(row[0]) for row in rows(section(TESTS, "The folders of the package"))]
    assert told == [re.split(r" \| ", layer) for layer in layers]


@pytest.mark.parametrize(
    "picture",
    [pictures.DEMO, pictures.STATUS, pictures.DIRECTORY / "peers.svg"],
    ids=lambda path: path.name,
)
def test_a_picture_asks_no_host_for_anything(picture: Path):
    drawn = picture.read_text()
    assert f"({picture.relative_to(ROOT)})" in README.read_text()
    assert len(drawn) < 60_000
    assert re.findall(r"\w+://(?!demo/)[^\"\s]*", drawn) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"@import|@font-face|<image|href|/home/|/root/", drawn)


def test_the_demo_in_the_picture_held_every_claim():
    drawn = pictures.DEMO.read_text()
    assert "Every&#160;claim&#160;held." in drawn
    assert "✗" not in drawn


def test_a_picture_is_what_the_terminal_showed():
    shown = [
        "   0.5 s             config.json",
        "\x1b[32m   1.0 s  proven   checkpoint-10\x1b[0m",
        "   2.0 s  step       5",
        "   3.0 s  done     all",
    ]
    short = pictures.shortened("\n".join(shown))
    assert [line[-3:] for line in pictures.COLOURS.sub("", short).splitlines()] == ["-10", "all"]
    drawn = pictures.drawing("a title", f"{short}\n/tmp/mk-demo-a1_b2/output")
    assert "a&#160;title" in drawn
    assert ">/tmp/mk-demo/output<" in drawn
