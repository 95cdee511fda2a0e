"""What all workers of a test run share: made by the first that wants it, in a folder of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def made_once(request: pytest.FixtureRequest, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that is made once in a run, by whichever worker of pytest-xdist comes first."""
    base = request.getfixturevalue("tmp_path_factory").getbasetemp()
    run = base.parent if hasattr(request.config, "workerinput") else base
    folder, done = run / "shared" / name, run / "shared" / f"{name}.done"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(run / f"{name}.lock"):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
