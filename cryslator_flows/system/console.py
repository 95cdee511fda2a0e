"""What all commands share: consoles, progress bars, words."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, Task

MODEL_HELP = "Model by name (see `cryslator models`) or by its folder."


def visible(text: str) -> str:
    r"""Text with everything that a terminal would obey, or hide, written as an escape.

    >>> visible("a\x1b[2J\u202eb")
    'a\\x1b[2J\\u202eb'
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text
    )


def as_text(text: str) -> Text:
    """Text that any console shows as it is."""
    return Text(visible(text))


class PlainConsole(Console):
    """Console that shows strings as they are: names of files and crystals hold neither markup nor emoji."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make text of a string."""
        return super().render_str(visible(text), **options)


out = PlainConsole()
err = PlainConsole(stderr=True)


def note(word: str, text: str, style: str = "yellow") -> None:
    """Print a line of a coloured word and a text on the error console."""
    err.print(Text(word, style), text, soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Progress bars on the error console, each task with a `note`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    class Words(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(visible(super().render(task).plain), self.style)

    columns = Words("{task.description:<14}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, Words("{task.fields[note]}", "dim", markup=False), console=err) as progress:
        yield progress


def shown(path: Path) -> str:
    """Path as seen from the current folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def quiet() -> None:
    """Keep the packages underneath from talking into the progress bars."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.getLogger("jobflow").setLevel(logging.ERROR)
