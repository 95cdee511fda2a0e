"""Files of pairs from the content of a source."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from pymatgen.core import Composition

from cryslator_flows.analysis.formation_energies import formation_energy_per_atom
from cryslator_flows.errors import DataError
from cryslator_flows.pairs.align import align_all
from cryslator_flows.pairs.kinds import SplitRule
from cryslator_flows.pairs.raw import Dropped, checked_pair
from cryslator_flows.pairs.write import (
    SPLIT,
    SUMMARY_FILE,
    PairsSummary,
    PartCounts,
    PartFiles,
    Spool,
    check_owner,
)
from cryslator_flows.system.whole_files import whole_file, write_whole
from cryslator_flows.training.records import PairRecord
from cryslator_flows.training.splits import PARTS, HeldOut, share_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cryslator_flows.pairs.raw import RawPair

LEAKAGE = "leakage: made from a template of a validation or test formula"
NO_PART = "in no split of the source"


@dataclass(frozen=True)
class PairFolder:
    """A folder of files of pairs.

    Parameters
    ----------
    folder : Path or str
        The folder to write to; it is made if missing.
    split : SplitRule
        Rule of the split into training, validation and test.
    seed : int
        Seed of the split.
    element_energies : dict or None
        Energies of the elements by the engine that relaxed, in eV/atom, for formation energies.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from pymatgen.core import Lattice, Structure
    >>> from cryslator_flows.pairs.raw import RawPair
    >>> unrelaxed = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> relaxed = unrelaxed.apply_strain(0.02, inplace=False)
    >>> pair = RawPair("CsCl", "CsCl", unrelaxed, relaxed, {"formation_energy_per_atom": -2.3})
    >>> summary = PairFolder(mkdtemp(), split=SplitRule.NONE).fill([pair], "vasp", "runs/")
    >>> summary.kept, list(summary.files)
    (1, ['pairs.jsonl.gz'])
    """

    folder: Path
    split: SplitRule = SplitRule.FORMULA
    seed: int = 0
    element_energies: dict[str, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    @property
    def scratch(self) -> Path:
        """Folder for results that a stopped source continues from; removed after the pairs are written."""
        return self.folder / "unfinished"

    def fill(
        self,
        pairs: Iterable[RawPair | PairRecord | Dropped],
        kind: str,
        source: str,
        report: Callable[[], None] = lambda: None,
    ) -> PairsSummary:
        """Align pairs, split them and write them, with ``pairs.json`` and ``dropped.jsonl``.

        Pairs wait on the disk, not in memory, until all are read. Existing files of pairs stay unchanged if no pair
        is left.

        Parameters
        ----------
        pairs : iterable of RawPair, PairRecord or Dropped
            Pairs of the source; records are aligned already.
        kind : str
            Kind of source, for the summary.
        source : str
            Name of the source, for the summary.
        report : callable
            Called after each of `pairs`.

        Returns
        -------
        PairsSummary
            Counts of the pairs.

        Raises
        ------
        DataError
            The split of the source is requested, but the source has none.
        StoreError
            The folder holds the pairs of another source, or cannot be written.
        """
        check_owner(self.folder, kind, source)
        with Spool(self.folder) as rows, Spool(self.folder) as dropped:
            reasons: Counter[str] = Counter()
            formulas: list[str] = []
            given: list[str | None] = []
            without_energy: set[str] = set()

            def drop(item: Dropped) -> None:
                dropped.append(
                    {"name": item.name, "reason": item.reason, **({"detail": item.detail} if item.detail else {})}
                )
                reasons[item.reason] += 1

            for item in map(self._with_formation_energy, align_all(pairs)):
                if isinstance(item, Dropped):
                    drop(item)
                else:
                    if item.formation_energy_per_atom is None:
                        without_energy.update(item.species)
                    rows.append(item.model_dump(exclude_none=True))
                    formulas.append(item.reduced_formula)
                    given.append((item.model_extra or {}).get(SPLIT))
                report()
            n_read = len(rows) + len(dropped)
            parts, left_out = self._share_out(rows, formulas, given)
            for left in left_out:
                drop(left)
            lacking = without_energy - set(self.element_energies) if self.element_energies is not None else set()
            summary = PairsSummary(
                kind=kind,
                source=source,
                split=self.split.value,
                seed=self.seed,
                read=n_read,
                kept=n_read - len(dropped),
                dropped=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
                files=self._write(rows, formulas, parts) if len(dropped) < n_read else {},
                elements_without_energy=sorted(lacking),
            )
            with whole_file(self.folder / "dropped.jsonl") as file:
                file.writelines(dropped.lines())
            write_whole(self.folder / SUMMARY_FILE, summary.model_dump_json(indent=2) + "\n")
        shutil.rmtree(self.scratch, ignore_errors=True)
        return summary

    def _with_formation_energy(self, pair: PairRecord | Dropped) -> PairRecord | Dropped:
        """Return a pair with its formation energy, if its energy and those of its elements are known."""
        if isinstance(pair, Dropped):
            return pair
        known = (pair.model_extra or {}).get("energy_per_atom")
        if known is not None and not (isinstance(known, int | float) and isfinite(known)):
            return Dropped(pair.target, "energy_per_atom is missing or wrong")
        composition = Composition(Counter(pair.species))
        energy = formation_energy_per_atom(composition, known, self.element_energies or {})
        if energy is None:
            return pair
        return checked_pair(pair.target, {**dict(pair), "formation_energy_per_atom": energy})

    def _share_out(
        self, rows: Spool, formulas: Sequence[str], given: Sequence[str | None]
    ) -> tuple[list[str | None], list[Dropped]]:
        """Return the part of each row, None for dropped rows, and the dropped rows with their reason."""
        if self.split is SplitRule.NONE:
            return [""] * len(rows), []
        if self.split is SplitRule.FORMULA:
            of_formula = share_out(formulas, self.seed)
            parts: list[str | None] = [of_formula[formula] for formula in formulas]
        else:
            parts = [value if value in PARTS else None for value in given]
            if parts and not any(parts):
                raise DataError("--split given: the source has no split into train, val and test; use --split formula")

        def records(part: str) -> Iterator[PairRecord]:
            for row, of_row in zip(rows, parts, strict=True):
                if of_row == part:
                    yield PairRecord.model_validate(row)

        held_out = HeldOut(records("val"), records("test"))
        left_out = []
        for number, row in enumerate(rows):
            if parts[number] is None:
                left_out.append(Dropped(row["target"], NO_PART))
            # In a split of the source the source has chosen the targets.
            elif parts[number] == "train" and held_out.template_leak(PairRecord.model_validate(row)) is not None:
                parts[number] = None
                left_out.append(Dropped(row["target"], LEAKAGE))
        return parts, left_out

    def _write(self, rows: Spool, formulas: Sequence[str], parts: Sequence[str | None]) -> dict[str, PartCounts]:
        with PartFiles(self.folder, ("",) if self.split is SplitRule.NONE else PARTS) as files:
            for row, formula, part in zip(rows, formulas, parts, strict=True):
                if part is not None:
                    files.write(part, row, formula)
        return files.counts()
