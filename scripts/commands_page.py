"""Write docs/commands.md: what `pspnet-convert COMMAND --help` prints, for each command.

    python scripts/commands_page.py            # write the page
    python scripts/commands_page.py --check    # exit code 1 if the page is stale

tests/test_docs.py does the check, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from pspnet_convert.cli import cli
from pspnet_convert.errors import ConvertError
from pspnet_convert.files import write_text

PROGRAM = "pspnet-convert"
PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
WIDTH = 100  # columns
HEAD = f"""\
# Commands

`python scripts/commands_page.py` makes this page from what `{PROGRAM} COMMAND --help` prints.
Change the help texts in the code, not here.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is stale")
    if not parser.parse_args().check:
        write_text(PAGE, page())
    elif is_stale():
        sys.exit(f"{PAGE}: is stale. Run: python scripts/commands_page.py")


def is_stale() -> bool:
    return not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page()


def page() -> str:
    """The page's Markdown: the program's help first, then one section a command, in the group's order."""
    return "\n".join([HEAD, *sections()])


def sections() -> Iterator[str]:
    yield _section(PROGRAM, help_text())
    for name in cli.list_commands(click.Context(cli)):
        yield _section(f"{PROGRAM} {name}", help_text(name))


def help_text(*command: str) -> str:
    """What `pspnet-convert COMMAND --help` prints on a terminal of WIDTH columns, without colours."""
    terminal = {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner(env=terminal).invoke(
        cli, [*command, "--help"], prog_name=PROGRAM, terminal_width=WIDTH, catch_exceptions=False
    )
    if result.exit_code:
        raise ConvertError(f"{PROGRAM} {' '.join(command)} --help: exit code {result.exit_code}: {result.output}")
    return "\n".join(line.rstrip() for line in result.output.strip("\n").splitlines())


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    main()
