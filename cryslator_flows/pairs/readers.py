"""The readers of all kinds of sources except campaigns, which `running.campaign_pairs` reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryslator_flows.pairs.kinds import Kind, SplitRule
from cryslator_flows.pairs.published.deeprelax import read_deeprelax
from cryslator_flows.pairs.published.mpf import read_mpf
from cryslator_flows.pairs.published.xmno import read_xmno
from cryslator_flows.pairs.sources.isostructural import read_isostructural
from cryslator_flows.pairs.sources.task_store import read_store
from cryslator_flows.pairs.sources.vasp_runs import read_vasp_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cryslator_flows.pairs.raw import Dropped, RawPair
    from cryslator_flows.training.records import PairRecord


def read_source(
    kind: Kind,
    path: Path,
    scratch: Path,
    intermediates: int,
    max_per_target: int,
    seed: int,
    split: SplitRule,
    report: Callable[[str], None],
) -> Iterator[RawPair | PairRecord | Dropped]:
    """Yield the pairs of a source by the reader of its kind; each reader describes its options."""
    if kind is Kind.STORE:
        return read_store(path, intermediates)
    if kind is Kind.VASP:
        return read_vasp_runs(path, intermediates)
    if kind is Kind.ISOSTRUCTURAL:
        return read_isostructural(path, scratch, max_per_target, seed, split, report)
    if kind is Kind.MPF:
        return read_mpf(path, intermediates, report)
    return (read_xmno if kind is Kind.XMNO else read_deeprelax)(path, report)
