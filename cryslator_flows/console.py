"""What all commands share: consoles, progress bars, words."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

MODEL_HELP = "Model by name (see `cryslator models`) or by its folder."

out = Console()
err = Console(stderr=True)


def plain(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Progress bars on the error console, each task with a `note`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TextColumn("{task.fields[note]}", style="dim"), console=err) as progress:
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
