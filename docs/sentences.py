"""Report sentences of more than 25 words in Markdown pages: ``python docs/sentences.py PAGE...``.

Code blocks, tables and headings are left out. A formula in code and a title in quotes count as one word each.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

LONGEST = 25
CONTAINERS = ("table", "heading")
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", flags=re.S)
TERM = re.compile(r"^(.+)\n:   ", flags=re.M)
TITLE = re.compile(r"\"[^\"]*\"|“[^”]*”")
END = re.compile(r"(?<=[.?!])[)\"*]*\s+")
ABBREVIATION = re.compile(r"(?:\b[A-Z]|\b(?:npj|Comput|Mater|Phys|Rev|Commun|al|St|vs|e\.g|i\.e))\.$")


def text_of(inline: Token) -> str:
    """Return the words of a paragraph, with ``Code`` for each piece of code."""
    parts = []
    for child in inline.children or []:
        if child.type == "code_inline":
            parts.append("Code")
        elif child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type == "text":
            parts.append(child.content)
    return "".join(parts)


def paragraphs(page: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every paragraph and list item outside tables and headings."""
    front = FRONT_MATTER.match(page)
    skipped = page[: front.end()].count("\n") if front else 0
    inside = 0
    for token in MarkdownIt().enable("table").parse(FRONT_MATTER.sub("", page)):
        if token.type.startswith(CONTAINERS):
            inside += token.nesting
        elif token.type == "inline" and not inside and token.map:
            yield token.map[0] + 1 + skipped, TERM.sub(r"\1.\n", text_of(token))


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a paragraph."""
    begun = ""
    for piece in END.split(TITLE.sub("Title", text)):
        begun = f"{begun} {piece}".strip()
        if not ABBREVIATION.search(piece):
            yield begun
            begun = ""
    if begun:
        yield begun


def long_sentences(page: str) -> Iterator[tuple[int, int, str]]:
    """Yield line of the paragraph, number of words and text of each sentence that is too long."""
    for line, text in paragraphs(page):
        for sentence in sentences(text):
            words = [word for word in sentence.split() if re.search(r"\w", word)]
            if len(words) > LONGEST:
                yield line, len(words), " ".join(words)


def main(paths: list[str]) -> int:
    """Print the long sentences of these pages and return 1 if there are any."""
    found = [(path, *row) for path in paths for row in long_sentences(Path(path).read_text())]
    for path, line, words, text in found:
        print(f"{path}:{line}: {words} words, at most {LONGEST}: {text[:70]} ...")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
