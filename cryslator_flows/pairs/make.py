"""From what a source holds to files of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryslator_flows.pairs.align import align_all
from cryslator_flows.pairs.energies import with_formation_energies
from cryslator_flows.pairs.kinds import Split
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.split import drop_leakage, split_as_given, split_records
from cryslator_flows.pairs.write import PairsSummary, check_owner, count_reasons, write_pairs, write_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from cryslator_flows.pairs.align import PairLimits
    from cryslator_flows.pairs.raw import RawPair
    from cryslator_flows.pairs.split import Parts
    from cryslator_flows.translator.records import PairRecord


@dataclass(frozen=True)
class PairFolder:
    """A folder of files of pairs.

    Parameters
    ----------
    folder : Path
        Where to; made if missing.
    split : Split
        How pairs are shared out to training, validation and test.
    seed : int
        Seed of the split.
    element_energies : dict or None
        Energies of the elements by the engine that relaxed, in eV/atom, for formation energies.
    limits : PairLimits or None
        How far apart an unrelaxed and a relaxed crystal may be.
    """

    folder: Path
    split: Split = Split.FORMULA
    seed: int = 0
    element_energies: dict[str, float] | None = None
    limits: PairLimits | None = None

    def fill(
        self,
        pairs: Iterable[RawPair | Dropped],
        kind: str,
        source: str,
        report: Callable[[], None] = lambda: None,
    ) -> PairsSummary:
        """Align pairs, share them out and write them, with ``pairs.json`` and ``dropped.jsonl``.

        Files of pairs that are there are left as they are if not one pair is left.

        Parameters
        ----------
        pairs : iterable of RawPair or Dropped
            What the source holds.
        kind : str
            Kind of source, for the summary.
        source : str
            Name of the source, for the summary.
        report : callable
            Called after each of `pairs`.

        Returns
        -------
        PairsSummary
            What became of them.

        Raises
        ------
        DataError
            The split of the source is asked for, and it brings none.
        StoreError
            The folder holds the pairs of another source, or cannot be written.
        """
        check_owner(self.folder, kind, source)
        records: list[PairRecord] = []
        dropped: list[Dropped] = []
        for item in align_all(with_formation_energies(pairs, self.element_energies or {}), self.limits):
            if isinstance(item, Dropped):
                dropped.append(item)
            else:
                records.append(item)
            report()
        n_read = len(records) + len(dropped)
        parts, more = self._share_out(records)
        dropped += more
        kept = n_read - len(dropped)
        summary = PairsSummary(
            kind=kind,
            source=source,
            split=self.split.value,
            seed=self.seed,
            read=n_read,
            kept=kept,
            dropped=count_reasons(dropped),
            files=write_pairs(self.folder, parts) if kept else {},
            elements_without_energy=self._lacking(records),
        )
        write_summary(self.folder, summary, dropped)
        return summary

    def _lacking(self, records: list[PairRecord]) -> list[str]:
        given = self.element_energies
        if given is None:
            return []
        without = [record for record in records if record.formation_energy_per_atom is None]
        return sorted({symbol for record in without for symbol in record.species} - set(given))

    def _share_out(self, records: list[PairRecord]) -> tuple[Parts, list[Dropped]]:
        if self.split is Split.NONE:
            return {"": records}, []
        given, dropped = split_as_given(records) if self.split is Split.GIVEN else (None, [])
        parts, leaked = drop_leakage(given or split_records(records, self.seed))
        return parts, dropped + leaked
