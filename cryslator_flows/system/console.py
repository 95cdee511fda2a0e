"""Consoles, progress bars, help texts and tables that all commands share."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rich.progress import Progress, Task

# Reasons that are listed; the others are counted together.
MOST_REASONS = 3
MODEL_HELP = "Model by name (see `cryslator models`) or by its folder."


def visible(text: str) -> str:
    r"""Return a text with every control or invisible character written as an escape.

    >>> visible("a\x1b[2J\u202eb")
    'a\\x1b[2J\\u202eb'
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text
    )


def as_text(text: str) -> Text:
    """Return a text that any console shows unchanged."""
    return Text(visible(text))


def new_table(title: str, *columns: str) -> Table:
    """Make an empty table for the terminal; columns whose name begins with '>' are numbers."""
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD)
    table.pad_edge, table.collapse_padding = False, True
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(
            name,
            justify="right" if column.startswith(">") else "left",
            no_wrap=name != "",
            max_width=16 if name == "template" else None,
        )
    return table


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown; columns whose name begins with '>' are numbers, which stand to the right.

    >>> print(markdown_table(["start", ">pairs"], [["translated", "12"]]))
    | start | pairs |
    |---|---:|
    | translated | 12 |
    """
    header = list(header)
    marks = "".join("---:|" if name.startswith(">") else "---|" for name in header)
    names, *lines = (f"| {' | '.join(cells)} |" for cells in ([name.removeprefix(">") for name in header], *rows))
    return "\n".join([names, f"|{marks}", *lines])


def main_reasons(numbers: Mapping[str, float], form: str = "{:.0f}") -> str:
    """Return the most frequent reasons with their numbers, or their shares.

    >>> main_reasons({"wide interval": 5, "Tc in 3 training halides": 7})
    'Tc in 3 training halides: 7, wide interval: 5'
    """
    first = sorted(numbers.items(), key=lambda item: -item[1])
    words = [f"{reason}: {form.format(number)}" for reason, number in first[:MOST_REASONS]]
    others = sum(number for _, number in first[MOST_REASONS:])
    return ", ".join([*words, f"others: {form.format(others)}"] if others else words)


def several(number: int, thing: str) -> str:
    """Return a number of things in words.

    >>> several(1, "job"), several(1200, "candidate")
    ('1 job', '1200 candidates')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class PlainConsole(Console):
    """Console that shows strings unchanged, since names of files and crystals contain neither markup nor emoji."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text of a string."""
        return super().render_str(visible(text), **options)


out = PlainConsole()
err = PlainConsole(stderr=True)


def note(word: str, text: str, style: str = "yellow") -> None:
    """Print a coloured word and a text as one line on the error console."""
    err.print(Text(word, style), text, soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield progress bars on the error console, each task with a `note`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    class Words(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(visible(super().render(task).plain), self.style)

    columns = Words("{task.description:<14}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, Words("{task.fields[note]}", "dim", markup=False), console=err) as progress:
        yield progress


def shown(path: Path) -> str:
    """Return a path relative to the current folder, if it is inside."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def quiet() -> None:
    """Silence the log messages and warnings of other packages, which would break the progress bars."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.getLogger("jobflow").setLevel(logging.ERROR)
