"""Hooks of mkdocs: parts of pages that are made from the code, and pages that lie elsewhere in the repository.

Links in all pages are those of the repository, as a code host shows them. A page or a file outside ``docs/`` that some
page links to becomes part of the site, under its path in the repository. A notebook becomes a page with its outputs.

Two comments in a page stand for text: ``<!-- include README.md: Heading -->`` for a section of another page (without a
heading, for its introduction), ``<!-- generate NAME -->`` for one of `GENERATED`.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

import notebooks
import reference_tables as tables
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
DOCS = "docs/"
NOTEBOOK = ".ipynb"
# Pages outside docs/ that the navigation names.
PAGES = ("CHANGELOG.md", "models/*/README.md", "workflows/*/*.md", "workflows/*.ipynb")
GENERATED = {
    "campaign-file": tables.campaign_file,
    "recipe": tables.recipe,
    "documents": tables.documents,
    "settings": tables.settings,
    "commands": tables.commands,
}
LINK = re.compile(r"(!?\[[^\]]*\]\()(?!\w+:|/|#)([^)\s#]+)(?=[)\s#])")
COMMENT = re.compile(r"^<!-- (include|generate) (.+?) -->$", flags=re.M)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside ``docs/``, and every file of the repository that a page links to."""
    pages = [file.src_uri for file in files.documentation_pages()]
    outside = [str(path.relative_to(ROOT)) for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    waiting = [DOCS + page for page in pages] + outside
    seen = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        if files.get_file_from_path(place(path)) is None:
            source = {"content": read(path)} if path.endswith(NOTEBOOK) else {"abs_src_path": str(ROOT / path)}
            files.append(File.generated(config, place(path), **source))
        if path.endswith((".md", NOTEBOOK)):
            found = {resolve(path, match[2]) for match in LINK.finditer(expand(read(path), path))}
            waiting += [link for link in found if (ROOT / link).is_file()]
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Fill in what comments stand for, and point links of the repository to the site."""
    path = source_of(page.file.src_uri)
    # Without prompts pygments would take commands for output.
    shown = re.sub(r"^( *```)console$", r"\1bash", markdown, flags=re.M)
    return relink(expand(shown, path), path, page.file.src_uri)


def expand(markdown: str, path: str) -> str:
    """Replace the comments of a page by what they stand for."""

    def fill(match: re.Match[str]) -> str:
        if match[1] == "generate":
            return GENERATED[match[2]]()
        source, _, heading = match[2].partition(": ")
        return move_links(section(source, heading), source, path)

    return COMMENT.sub(fill, markdown)


def section(path: str, heading: str) -> str:
    """Return the text under a second-level heading, or the text between the title and the first heading."""
    title, *parts = re.split(r"^## ", (ROOT / path).read_text(), flags=re.M)
    if not heading:
        return title.split("\n", 1)[1].strip()
    for part in parts:
        name, _, text = part.partition("\n")
        if name.strip() == heading:
            return text.strip()
    raise PluginError(f"{path}: no heading '## {heading}', which a page of the site includes")


def relink(markdown: str, path: str, uri: str) -> str:
    """Links of a page at `path` of the repository as links of the page `uri` of the site."""

    def point(match: re.Match[str]) -> str:
        target = resolve(path, match[2])
        if not (ROOT / target).is_file():
            return match[0]
        return match[1] + posixpath.relpath(place(target), posixpath.dirname(uri) or ".")

    return LINK.sub(point, markdown)


def move_links(markdown: str, old: str, new: str) -> str:
    """Links of a page at `old` as they are from a page at `new`, both in the repository."""

    def point(match: re.Match[str]) -> str:
        return match[1] + posixpath.relpath(resolve(old, match[2]), posixpath.dirname(new) or ".")

    return LINK.sub(point, markdown)


def resolve(path: str, link: str) -> str:
    """Return the path in the repository to which a link of the page at `path` leads."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def place(path: str) -> str:
    """Where the site has a file of the repository."""
    if path == "README.md":
        return "index.md"
    return path.replace(NOTEBOOK, ".md").removeprefix(DOCS)


def source_of(uri: str) -> str:
    """Return the file of the repository that a page of the site was made from."""
    notebook = uri.replace(".md", NOTEBOOK)
    for path in (DOCS + uri, notebook):
        if (ROOT / path).is_file():
            return path
    return uri


def read(path: str) -> str:
    """Return the Markdown of a page or of a notebook."""
    return notebooks.to_markdown(ROOT / path) if path.endswith(NOTEBOOK) else (ROOT / path).read_text()
