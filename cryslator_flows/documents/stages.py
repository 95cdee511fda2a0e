"""Stages of a campaign."""

from __future__ import annotations

from typing import Literal, get_args

Stage = Literal["enumerate", "translate", "select", "potential", "relax", "compare", "learn", "summarize"]
STAGES: tuple[Stage, ...] = get_args(Stage)
# jobflow's own job at the end of a flow that replaces a job; it only copies an output.
HIDDEN_JOB = "store_inputs"
