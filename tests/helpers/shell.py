"""The commands of the pages' shell blocks, as words, without running a shell."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[2]
PAGES = [*(REPO / name for name in ("README.md", "CONTRIBUTING.md")), *sorted((REPO / "docs").glob("**/*.md"))]
SHELLS = {"bash", "sh", "shell", "console"}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_ASSIGNMENT = re.compile(r"(\w+)=(.*)")
_SEPARATORS = {"&&", "||", ";", "|"}


class Command(NamedTuple):
    """One command of a page.

    Attributes:
        page: The page, relative to the repository.
        line: Where its block begins, from 1.
        words: The command, with the block's variables filled in.
    """

    page: str
    line: int
    words: tuple[str, ...]


def blocks(page: Path, languages: set[str]) -> list[tuple[int, str]]:
    """The code blocks of a page in some languages: line and text."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start(2)) + 1, found[2]) for found in _BLOCK.finditer(text) if found[1] in languages
    ]


def commands() -> list[Command]:
    """All commands of all pages, those in $(...) too."""
    found = []
    for page in PAGES:
        variables: dict[str, str] = {}
        for line, text in blocks(page, SHELLS):
            name = page.relative_to(REPO).as_posix()
            found += [Command(name, line, tuple(words)) for words in split(text, variables)]
    return found


def split(text: str, variables: dict[str, str]) -> list[list[str]]:
    """The commands of a block, in order.

    Args:
        text: The block.
        variables: What the page has set so far; what the block sets is added. Of ``$(command)`` it is the name itself.

    Returns:
        The words of each command.
    """
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        assigned = _ASSIGNMENT.fullmatch(line.strip())
        if assigned and assigned[2].startswith("$("):
            found += _split_line(assigned[2][2:-1], variables)
            variables[assigned[1]] = assigned[1]
        elif assigned:
            variables[assigned[1]] = assigned[2]
        else:
            found += _split_line(line, variables)
    return found


def _split_line(line: str, variables: dict[str, str]) -> list[list[str]]:
    """The commands of a line, divided by && and the like; redirections are left out."""
    for name, value in variables.items():
        line = re.sub(rf"\$\{{?{name}\b\}}?", value, line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;>")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if word in _SEPARATORS:
            found.append([])
        elif word in {">", ">>"}:
            next(words)
        else:
            found[-1].append(word)
    return [words for words in found if words]
