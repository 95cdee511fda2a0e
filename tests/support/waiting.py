"""Waiting for what happens elsewhere: on a condition, never for a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float, interval: float = 0.2) -> T:
    """Ask every `interval` seconds until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not so after {seconds} s")
        time.sleep(interval)
    return answer
