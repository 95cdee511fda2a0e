"""A flow that jobflow-remote has to build up while it runs: plan is replaced by works side by side and one sum."""

import time

from jobflow import Flow, Response, job


@job(data="squares")
def work(number: int, seconds: float) -> dict:
    """Work for some time; part of the output goes to the additional store ``data``."""
    time.sleep(seconds)
    return {"number": number, "squares": [number**2] * 10}


@job
def add(numbers: list[int]) -> int:
    return sum(numbers)


@job
def plan(count: int, seconds: float) -> Response:
    works = [work(number, seconds * number) for number in range(1, count + 1)]
    total = add([each.output["number"] for each in works])
    return Response(replace=Flow([*works, total], output=total.output))


def fan_out(count: int, seconds: float) -> Flow:
    """Works number 1 to count, each of number times these seconds, and the sum of their numbers."""
    return Flow([plan(count, seconds)], name="fan-out")
