"""The reader of each kind of source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from cryslator_flows.pairs.kinds import Kind, ReaderOptions
from cryslator_flows.pairs.published.deeprelax import read_deeprelax
from cryslator_flows.pairs.published.mpf import read_mpf
from cryslator_flows.pairs.published.xmno import read_xmno
from cryslator_flows.pairs.raw import Dropped, RawPair
from cryslator_flows.pairs.sources.isostructural import read_isostructural
from cryslator_flows.pairs.sources.task_store import read_store
from cryslator_flows.pairs.sources.vasp_runs import read_vasp_runs
from cryslator_flows.training.records import PairRecord

Reader = Callable[[Path, ReaderOptions], Iterator[RawPair | PairRecord | Dropped]]

# `running.campaign_pairs` reads campaigns.
READERS: dict[Kind, Reader] = {
    Kind.STORE: lambda path, options: read_store(path, options.intermediates),
    Kind.VASP: lambda path, options: read_vasp_runs(path, options.intermediates),
    Kind.ISOSTRUCTURAL: lambda path, options: read_isostructural(
        path, options.scratch, options.max_per_target, options.seed, options.split, report=options.report
    ),
    Kind.XMNO: lambda path, options: read_xmno(path, options.report),
    Kind.DEEPRELAX: lambda path, options: read_deeprelax(path, options.report),
    Kind.MPF: lambda path, options: read_mpf(path, options.intermediates, options.report),
}
