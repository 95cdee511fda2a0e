"""The reader of each kind of source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from cryslator_flows.pairs.kinds import Kind, ReaderOptions
from cryslator_flows.pairs.raw import Dropped, RawPair

Reader = Callable[[Path, ReaderOptions], Iterator[RawPair | Dropped]]

# Campaigns are read by `campaign.pairs`.
READERS: dict[Kind, Reader] = {}
