"""A flow that jobflow-remote has to build up while it runs: plan is replaced by works side by side and one sum."""

from dataclasses import dataclass
from pathlib import Path

from jobflow import Flow, Response, job

from tests.support.waiting import wait_for


@dataclass(frozen=True)
class Gate:
    """A folder in which jobs wait: the first passes, the others wait until the gate is open."""

    folder: Path

    def close_for_all(self) -> None:
        """Let not even the first one pass."""
        (self.folder / "first").mkdir()

    def open(self) -> None:
        (self.folder / "open").touch()

    def wait(self) -> None:
        try:
            (self.folder / "first").mkdir()
        except FileExistsError:
            wait_for((self.folder / "open").exists, 600)


@job(data="squares")
def work(number: int, gate: str | None = None) -> dict:
    """Work, after a wait at a gate if there is one; part of the output goes to the additional store ``data``."""
    if gate:
        Gate(Path(gate)).wait()
    return {"number": number, "squares": [number**2] * 10}


@job
def add(numbers: list[int]) -> int:
    return sum(numbers)


@job
def plan(count: int, gate: str | None = None) -> Response:
    works = [work(number, gate) for number in range(1, count + 1)]
    total = add([each.output["number"] for each in works])
    return Response(replace=Flow([*works, total], output=total.output))


def fan_out(count: int, gate: Path | None = None) -> Flow:
    """Works number 1 to count, and the sum of their numbers."""
    return Flow([plan(count, str(gate) if gate else None)], name="fan-out")
