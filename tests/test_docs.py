"""What the documents say about the program is what the program has."""

from __future__ import annotations

import os
import re
from pathlib import Path

import commands_page
import pytest

from pspnet_convert import errors
from pspnet_convert.cli import cli as command_line
from pspnet_convert.command_line import INTERRUPTED
from pspnet_convert.errors import ConvertError

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CHANGELOG.md", *DOCS, ROOT / "examples" / "README.md"]
all_pages = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def readme() -> str:
    return read(README)


@pytest.fixture(scope="module")
def exit_codes() -> str:
    return read(ROOT / "docs" / "exit-codes.md")


def family() -> dict[str, int]:
    """The exit code of each error class."""
    classes = [ConvertError, *ConvertError.__subclasses__()]
    return {one.__name__: one.exit_code for one in classes if one.__module__ == errors.__name__}


# Commands


@pytest.mark.parametrize("name", sorted(command_line.commands))
def test_the_readme_names_every_command(readme: str, name: str) -> None:
    assert re.search(rf"pspnet-convert {name}\b|`{name}[ `]", readme)


@all_pages
def test_no_page_names_a_command_that_does_not_exist(path: Path) -> None:
    named = re.findall(r"^\s*(?:\$ )?(?:\S*/)?pspnet-convert ([a-z][a-z-]*)", read(path), flags=re.MULTILINE)
    assert set(named) <= set(command_line.commands)
    assert named or path != README


def test_the_page_of_commands_is_what_help_prints() -> None:
    assert not commands_page.is_stale(), "run: python scripts/commands_page.py"


def test_the_page_of_commands_has_a_section_for_each_in_the_groups_order() -> None:
    sections = re.findall(r"^## pspnet-convert ([a-z-]+)$", commands_page.page(), flags=re.MULTILINE)
    assert sections == command_line.list_commands(commands_page.click.Context(command_line))


def test_a_stale_page_of_commands_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_page, "PAGE", tmp_path / "commands.md")
    assert commands_page.is_stale()
    commands_page.PAGE.write_text(commands_page.page().replace("--help", "--hulp", 1), encoding="utf-8")
    assert commands_page.is_stale()


# Exit codes


def test_every_error_has_an_exit_code_of_its_own() -> None:
    codes = family()
    assert len(codes) == 21
    assert len(set(codes.values())) == len(codes)
    assert codes["OptionError"] == 2  # as click's usage errors
    assert not {0, INTERRUPTED} & set(codes.values())


@pytest.mark.parametrize("code", [0, INTERRUPTED, *family().values()])
def test_every_exit_code_has_a_row_in_its_table(exit_codes: str, code: int) -> None:
    rows = re.findall(rf"^\| *`?{code}`? *\|(.*)\|\s*$", exit_codes, flags=re.MULTILINE)
    assert len(rows) == 1, f"rows of {code}: {rows}"
    assert re.search(r"[a-z]{3}", rows[0])


def test_no_row_explains_an_exit_code_that_does_not_exist(exit_codes: str) -> None:
    rows = re.findall(r"^\| *`?(\d+)`? *\|", exit_codes, flags=re.MULTILINE)
    assert {int(code) for code in rows} == {0, INTERRUPTED, *family().values()}


# Files that are named


@pytest.mark.parametrize("script", ["scripts/quickstart", "scripts/test"])
def test_the_readmes_scripts_are_there_to_run(readme: str, script: str) -> None:
    assert script in readme
    assert (ROOT / script).is_file()
    assert os.access(ROOT / script, os.X_OK)
    assert (ROOT / script).read_text(encoding="utf-8").startswith("#!")


@all_pages
def test_every_relative_link_leads_to_a_file(path: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", read(path)) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@all_pages
def test_every_python_file_that_a_page_names_is_there(path: Path) -> None:
    """By its path from the top of the repository, or from the package."""
    named = re.findall(r"`(?:python )?([\w./-]+/[\w.-]+\.(?:py|j2))\b", read(path))
    assert [
        file for file in named if not any((folder / file).is_file() for folder in (ROOT, ROOT / "pspnet_convert"))
    ] == []


@pytest.mark.parametrize("folder", [".", "cards", "pytorch", "runtimes"])
def test_the_architecture_names_every_module(folder: str) -> None:
    modules = {path.name for path in (ROOT / "pspnet_convert" / folder).glob("[a-z]*.py")}
    assert modules - modules_named() == set()


def test_the_architecture_names_no_module_that_is_gone() -> None:
    assert modules_named() - {path.name for path in (ROOT / "pspnet_convert").rglob("*.py")} == set()


def modules_named() -> set[str]:
    """The Python files in docs/architecture.md, without their folders."""
    return set(re.findall(r"`(?:[\w.]+/)*(\w+\.py)`", read(ROOT / "docs" / "architecture.md")))


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    assert {f"({page.name})" for page in DOCS if page != index} <= set(re.findall(r"\([a-z0-9-]+\.md\)", read(index)))


# Form


def test_the_readme_is_a_tour_of_at_most_150_lines(readme: str) -> None:
    assert len(readme.splitlines()) <= 150


@all_pages
def test_tables_fit_100_columns(path: Path) -> None:
    rows = [line for line in read(path).splitlines() if line[:1] in tuple("|│┃┏┡└┌├╇")]
    assert [row for row in rows if len(row) > 100] == []


@all_pages
def test_nothing_is_left_to_be_filled_in(path: Path) -> None:
    assert re.findall(r"@[A-Z]+@|\bTODO\b", read(path)) == []


@all_pages
def test_pages_are_in_plain_english(path: Path) -> None:
    """Words that the style in docs/contributing.md avoids in every sentence."""
    assert re.findall(r"(?i)'s business|\b(?:told|tells?|mends?)\b|\bbut for\b", read(path)) == []


@all_pages
def test_prose_fits_110_columns(path: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", read(path), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) > 110] == []


# Examples


@pytest.mark.slow
def test_the_examples_of_the_python_api_run_and_print_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs" / "python-api.md"
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "python_api"}
    for start, code in python_blocks(read(page)):
        # With the page's own lines, so that a traceback says which line of the page failed.
        exec(compile("\n" * start + code, str(page), "exec"), names)
    assert "result" in names
    assert capfd.readouterr().out == ""


def python_blocks(text: str) -> list[tuple[int, str]]:
    """The code of each ```python block, and how many lines of the page come before it."""
    blocks = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start(1)), block[1]) for block in blocks]


def test_python_blocks_are_found_with_their_lines() -> None:
    assert python_blocks("a\n```python\nx = 1\n```\n```text\nno\n```\n```python\ny\n```\n") == [
        (2, "x = 1\n"),
        (8, "y\n"),
    ]
