"""Magnetic moments of candidates: carried over from the template, or left to the engine's input set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymatgen.electronic_structure.core import Magmom

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Initial moments of pymatgen's MPRelaxSet, in Bohr magnetons; other elements start without one.
MAGNETIC = {"V": 5.0, "Cr": 5.0, "Mn": 5.0, "Fe": 5.0, "Co": 0.6, "Ni": 5.0, "Mo": 5.0, "W": 5.0}
# Under this a site of the template has no moment to speak of, in Bohr magnetons.
NO_MOMENT = 0.1


def carry_moments(template: Structure, symbols: list[str]) -> list[Any] | None:
    """Moments for the candidate that a substitution makes of a template.

    A site keeps its moment, so that an antiferromagnetic order survives the substitution of its magnetic element. A
    site whose new element has none to expect gets zero. Where a magnetic element comes to a site that had no moment,
    there is none to carry: then all moments are left to the input set, which knows what the element starts with. A
    calculation that starts from zero there would never become magnetic.

    Parameters
    ----------
    template : Structure
        The template; moments are the site property ``magmom``, in Bohr magnetons, scalars or vectors.
    symbols : list of str
        New element of every site.

    Returns
    -------
    list or None
        A moment for every site; None where the input set has to set them.
    """
    if "magmom" not in template.site_properties:
        return None
    carried: list[Any] = []
    for site, symbol in zip(template, symbols, strict=True):
        moment = 0.0 if site.properties["magmom"] is None else site.properties["magmom"]
        changed = symbol != site.specie.symbol
        if changed and symbol in MAGNETIC and abs(Magmom(moment)) < NO_MOMENT:
            return None
        carried.append(0.0 if changed and symbol not in MAGNETIC else moment)
    return carried
