"""Orderings of disordered crystals: ordered crystals of the same composition, each once, in cells of limited size."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import factorial, lcm, prod
from typing import TYPE_CHECKING

import numpy as np
import spglib
from ase import Atoms
from ase.data import chemical_symbols
from pydantic import Field
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Element, Structure
from pymatgen.core.structure_matcher import StructureMatcher

from cryslator_flows.config import StrictModel
from cryslator_flows.errors import NotInstalledError, StructureError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

# Tolerance of positions and lattice vectors in which the symmetry is found, in angstrom.
SYMPREC = 0.01
# Occupancies of a site that add up to this much less or more than 1 fill it: 0.33 three times, for instance.
ROUNDED = 0.011
# Recurring decimals are known up to ninths.
NINTHS = 9
# Shapes of supercells that are compared pair by pair; some seconds.
MAX_SHAPES = 2500
VACANCY = ""
KEY = "enumeration.orderings"
NO_ICET = "orderings need icet, which is not installed here; pip install 'cryslator-flows[orderings]'"


class OrderingSettings(StrictModel):
    """Orderings of templates with partial occupancies and of `kind: partial`."""

    max_atoms: int = Field(20, ge=1, description="Largest cell of an ordering, in atoms")
    max_orderings: int = Field(
        1000, ge=1, description="Refuse a crystal with more orderings in such cells; they are estimated beforehand"
    )
    keep: int | None = Field(
        None,
        ge=1,
        description="Keep only this many orderings of a crystal, those of lowest Ewald energy per atom with the "
        "likeliest oxidation states; all if left out, which leaves the ranking to the translator",
    )


@dataclass(frozen=True)
class Orderings:
    """Orderings of one crystal.

    Parameters
    ----------
    structures : list of Structure
        Those that are kept, lowest Ewald energy first if some are not.
    n_found : int
        Number of all.
    """

    structures: list[Structure]
    n_found: int


@dataclass(frozen=True)
class _Parent:
    """Primitive cell of a disordered crystal.

    Parameters
    ----------
    matrix, frac : arrays
        Lattice vectors [3, 3] in angstrom, and fractional coordinates [sites, 3].
    kinds : list of int
        Sublattice of each site.
    sublattices : list of dict
        Share of each element, and of `VACANCY`, on the sites of a sublattice.
    n_operations : int
        Number of symmetry operations that keep the sublattices.
    """

    matrix: NDArray[np.float64]
    frac: NDArray[np.float64]
    kinds: list[int]
    sublattices: list[dict[str, Fraction]]
    n_operations: int

    def amounts(self) -> Iterator[tuple[str, Fraction, int]]:
        """Yield each element of each sublattice, with its share and the number of sites of the sublattice."""
        sites = Counter(self.kinds)
        for kind, shares in enumerate(self.sublattices):
            for symbol, share in shares.items():
                yield symbol, share, sites[kind]

    @property
    def n_atoms(self) -> Fraction:
        """Return the mean number of atoms in the cell, without vacancies."""
        return sum((share * sites for symbol, share, sites in self.amounts() if symbol != VACANCY), Fraction(0))


def find_orderings(structure: Structure, settings: OrderingSettings) -> Orderings:
    """Find all symmetry-distinct orderings of a disordered crystal, in all supercells up to a number of atoms.

    Sites of equal occupancies form a sublattice. Every ordering has exactly the shares of every sublattice. icet
    enumerates them: G. L. W. Hart and R. W. Forcade, Phys. Rev. B 77, 224115 (2008) and 80, 014120 (2009). Each
    ordering comes in its primitive cell. The cell is idealized within 0.01 angstrom, and moments and charges are left
    out.

    Parameters
    ----------
    structure : Structure
        Crystal with partial occupancies. What is missing to 1 is vacant.
    settings : OrderingSettings
        Largest cell, and caps.

    Returns
    -------
    Orderings
        The ordered crystals, smaller cells first.

    Raises
    ------
    StructureError
        No cell is large enough for the shares, there are too many orderings, or no oxidation states to rank them.
    NotInstalledError
        icet is not installed.
    """
    parent = _parent(structure)
    sizes = _sizes(parent, settings.max_atoms)
    least = _least_number(parent, sizes)
    advice = f"set {KEY}.max_orderings, lower {KEY}.max_atoms (now {settings.max_atoms}), or give simpler shares"
    if least > settings.max_orderings:
        raise StructureError(
            f"at least {least:.2g} orderings, over {settings.max_orderings}; {advice}", "too many orderings"
        )
    if (shapes := _n_supercells(sizes[-1])) > MAX_SHAPES:
        raise StructureError(
            f"{shapes} supercells of {sizes[-1]} primitive cells, at most {MAX_SHAPES}; lower {KEY}.max_atoms",
            "too many supercells",
        )
    found = list(islice(_enumerate(parent, sizes), settings.max_orderings + 1))
    if len(found) > settings.max_orderings:
        raise StructureError(f"over {settings.max_orderings} orderings; {advice}", "too many orderings")
    places = Counter(symbol for symbol, _, _ in parent.amounts())
    if VACANCY in places or max(places.values()) > 1:
        found = _distinct(found)
    n_found = len(found)
    if settings.keep is not None and n_found > settings.keep:
        found = _by_ewald_energy(found)[: settings.keep]
    return Orderings(found, n_found)


def majority(structure: Structure) -> Structure:
    """Return a crystal with the element of the largest share on each site, for checks of lattice and distances."""
    if structure.is_ordered:
        return structure
    species = [max(site.species.items(), key=lambda item: item[1])[0] for site in structure]
    return Structure(structure.lattice, species, structure.frac_coords)


def whole_amounts(structure: Structure) -> dict[str, int]:
    """Return whole numbers of atoms in the exact shares of a disordered crystal, by symbol."""
    amounts: dict[str, Fraction] = defaultdict(Fraction)
    for index in range(len(structure)):
        for symbol, share in _shares(structure, index).items():
            amounts[symbol] += share
    amounts.pop(VACANCY, None)
    factor = lcm(*(amount.denominator for amount in amounts.values()))
    return {symbol: int(amount * factor) for symbol, amount in amounts.items()}


def as_fraction(share: float) -> Fraction:
    """Return a share as an exact fraction: recurring decimals up to ninths, other numbers as they are written.

    >>> as_fraction(0.33), as_fraction(0.3), as_fraction(0.125)
    (Fraction(1, 3), Fraction(3, 10), Fraction(1, 8))
    """
    text = f"{share:.6f}".rstrip("0")
    decimals = len(text.partition(".")[2])
    exact = Fraction(text)
    if decimals < 2:
        return exact
    near = exact.limit_denominator(NINTHS)
    return near if 0 < near < 1 and abs(near - exact) < Fraction(1, 2 * 10**decimals) else exact


def _shares(structure: Structure, index: int) -> dict[str, Fraction]:
    """Return the share of each element and of vacancies on a site."""
    amounts: dict[str, float] = defaultdict(float)
    for specie, amount in structure[index].species.items():
        amounts[Element.from_Z(specie.Z).symbol] += amount
    shares = {symbol: as_fraction(amount) for symbol, amount in sorted(amounts.items())}
    missing = 1 - sum(amounts.values())
    if abs(missing) < ROUNDED:
        largest = max(shares, key=lambda symbol: shares[symbol])
        shares[largest] += 1 - sum(shares.values(), Fraction(0))
    else:
        shares[VACANCY] = 1 - sum(shares.values(), Fraction(0))
    if min(shares.values()) < 0:
        raise StructureError(
            f"site {index}: shares {structure[index].species_string} add up to over 1; fix them", "wrong occupancy"
        )
    return {symbol: share for symbol, share in shares.items() if share}


def _parent(structure: Structure) -> _Parent:
    """Find the sublattices, and the primitive cell that keeps them."""
    kinds: dict[tuple[tuple[str, Fraction], ...], int] = {}
    of_sites = [
        kinds.setdefault(tuple(_shares(structure, index).items()), len(kinds)) for index in range(len(structure))
    ]
    cell = (structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), [kind + 1 for kind in of_sites])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            primitive = spglib.standardize_cell(cell, to_primitive=True, symprec=SYMPREC)
            operations = None if primitive is None else spglib.get_symmetry(primitive, symprec=SYMPREC)
        except spglib.SpglibError:
            primitive = operations = None
    if primitive is None or operations is None:
        raise StructureError("spglib finds no symmetry operations; fix lattice and coordinates", "no symmetry")
    matrix, frac, numbers = primitive
    sites = [int(number) - 1 for number in numbers]
    sublattices = [dict(shares) for shares in kinds]
    return _Parent(np.array(matrix), np.array(frac), sites, sublattices, len(operations["rotations"]))


def _sizes(parent: _Parent, max_atoms: int) -> list[int]:
    """Return the numbers of primitive cells that hold whole numbers of all atoms, up to a number of atoms.

    Raises
    ------
    StructureError
        There are none.
    """
    least = lcm(*((share * sites).denominator for _, share, sites in parent.amounts()))
    most = int(max_atoms / parent.n_atoms)
    if least <= most:
        return list(range(least, most + 1, least))
    symbol, share, sites = max(parent.amounts(), key=lambda row: ((row[1] * row[2]).denominator, -row[1]))
    reason = f"needs a cell of {least * parent.n_atoms} atoms at least, over {KEY}.max_atoms: {max_atoms}; raise it"
    if most == 0 or least == 1:
        raise StructureError(f"it {reason}", "no cell fits")
    possible = [Fraction(number, sites * cells) for cells in range(1, most + 1) for number in range(1, sites * cells)]
    near = min(possible, key=lambda value: abs(value - share), default=None)
    what = "vacancies" if symbol == VACANCY else symbol
    raise StructureError(
        f"a share of {float(share):g} of {what} {reason}"
        + (f", or give the nearest share that fits, {float(near):.3g}" if near else ""),
        "no cell fits",
    )


def _least_number(parent: _Parent, sizes: Sequence[int]) -> float:
    """Return a lower bound of the number of orderings: all labelled supercells, divided by the number of operations.

    This is the term of the identity in Burnside's lemma. Where there are many orderings, it is a good part of all.
    """
    total = 0.0
    for cells in sizes:
        labelings = 1
        for kind, sites in Counter(parent.kinds).items():
            numbers = [int(share * sites * cells) for share in parent.sublattices[kind].values()]
            labelings *= factorial(sites * cells) // prod(map(factorial, numbers))
        total += float(Fraction(labelings * _n_supercells(cells), cells * parent.n_operations))
    return total


def _n_supercells(cells: int) -> int:
    """Return the number of superlattices of a number of cells: Hermite normal forms of this determinant."""
    return sum(
        middle * (cells // first // middle) ** 2
        for first in range(1, cells + 1)
        if cells % first == 0
        for middle in range(1, cells // first + 1)
        if cells // first % middle == 0
    )


def _enumerate(parent: _Parent, sizes: Sequence[int]) -> Iterator[Structure]:
    try:
        from icet.tools import enumerate_structures
    except ImportError as error:
        raise NotInstalledError(NO_ICET) from error
    # An element of another sublattice is another label: icet counts labels over all sites.
    labels = [(kind, symbol) for kind, shares in enumerate(parent.sublattices) for symbol in shares]
    if len(labels) >= len(chemical_symbols):
        raise StructureError(f"{len(labels)} elements on sublattices, at most {len(chemical_symbols) - 1}")
    stand_in = dict(zip(labels, chemical_symbols[1:], strict=False))
    meaning = {name: symbol for (_, symbol), name in stand_in.items()}
    choices = [[stand_in[kind, symbol] for symbol in parent.sublattices[kind]] for kind in parent.kinds]
    sites = Counter(parent.kinds)
    concentrations = {
        name: (value := float(parent.sublattices[kind][symbol] * sites[kind] / len(parent.kinds)), value)
        for (kind, symbol), name in stand_in.items()
    }
    atoms = Atoms([names[0] for names in choices], scaled_positions=parent.frac, cell=parent.matrix, pbc=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for found in enumerate_structures(atoms, sizes, choices, concentrations, symprec=1e-3):
            symbols = np.array([meaning[name] for name in found.get_chemical_symbols()])
            # Positions on the border of the cell come from either side.
            frac = np.round(found.get_scaled_positions(), 10) % 1
            there = symbols != VACANCY
            yield Structure(found.cell.array, symbols[there].tolist(), frac[there]).get_sorted_structure()


def _distinct(structures: Sequence[Structure]) -> list[Structure]:
    """Drop equivalent orderings: those of one element on two sublattices, or of the atoms that vacancies leave over.

    Symmetry operations of the atoms may be none of the sublattices.
    """
    matcher = StructureMatcher(scale=False)
    kept: dict[tuple[object, ...], list[Structure]] = defaultdict(list)
    distinct = []
    for structure in structures:
        primitive = structure.get_primitive_structure()
        earlier = kept[_distances(primitive)]
        if not any(matcher.fit(primitive, other) for other in earlier):
            earlier.append(primitive)
            distinct.append(structure)
    return distinct


def _distances(structure: Structure) -> tuple[object, ...]:
    """Count the distances up to 5 angstrom in a crystal by pairs of elements; equivalent crystals have equal counts."""
    first, second, _, lengths = structure.get_neighbor_list(5.0)
    symbols = np.array([specie.symbol for specie in structure.species])
    # The summand keeps distances such as 2.005 off the border of rounding.
    rounded = np.round(lengths + 0.00123, 2).tolist()
    return tuple(sorted(Counter(zip(symbols[first].tolist(), symbols[second].tolist(), rounded, strict=True)).items()))


def _by_ewald_energy(structures: Sequence[Structure]) -> list[Structure]:
    """Sort orderings of one composition by Ewald energy per atom.

    Raises
    ------
    StructureError
        No oxidation states balance the composition.
    """
    composition = structures[0].composition.reduced_composition
    guesses = composition.oxi_state_guesses(max_sites=-1)
    if not guesses:
        raise StructureError(
            f"no oxidation states balance {composition.reduced_formula}, so that Ewald energies cannot rank its "
            f"{len(structures)} orderings; leave out {KEY}.keep: the translator ranks them",
            "no oxidation states",
        )
    energies = []
    for structure in structures:
        charged = structure.copy().add_oxidation_state_by_element(guesses[0])
        energies.append(round(EwaldSummation(charged).total_energy / len(charged), 6))
    return [structures[index] for index in np.argsort(energies, kind="stable")]
