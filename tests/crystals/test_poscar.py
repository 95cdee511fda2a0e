import pytest

from cryslator_flows.crystals.poscar import read_poscar
from cryslator_flows.errors import StructureError

HEAD = ["words", "1.0", "3.9 0 0", "0 3.9 0", "0 0 3.9"]
SITES = ["0 0 0", "0.5 0.5 0.5", "0.5 0.5 0", "0.5 0 0.5", "0 0.5 0.5"]


def text(*lines, head=HEAD, sites=SITES):
    return "\n".join([*head, *lines, *sites])


@pytest.mark.parametrize(
    "content",
    [
        text("Ca Ti O", "1 1 3", "Direct"),
        text("Ca Ti", "O", "1 1", "3", "Direct"),
        text("Ca_pv Ti/a1b2c3 O", "1 1 3", "Selective dynamics", "Direct", sites=[f"{row} F F F" for row in SITES]),
        text("1 1 3", "Direct", sites=[f"{row} {name}" for row, name in zip(SITES, ["Ca", "Ti", *"OOO"], strict=True)]),
        text("Ca Ti O", "1 1 3", "Direct", head=[HEAD[0], "-59.319", *HEAD[2:]]),
        text("Ca Ti O", "1 1 3", "Direct") + "\n\n 2 2 2\n1 2 3 4 5 6 7 8",
    ],
)
def test_sound_files(content):
    found = read_poscar(content)
    assert found.formula == "Ca1 Ti1 O3"
    assert found.volume == pytest.approx(3.9**3)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (text("1 1 3", "Direct"), "no element symbols"),
        (text("Ca Ti O", "1 4", "Direct"), "line 6: 3 elements"),
        (text("Ca Ti", "1 1 3", "Direct"), "line 6: 2 elements"),
        (text("Ca Vac O", "1 1 3", "Direct"), "'Vac' is no element symbol"),
        (text("Ca Ti O", "1 1 3", "Cartesian", head=[HEAD[0], "-59.319", *HEAD[2:]]), "line 2: a cell volume"),
        (text("Ca Ti O", "1 1 1000000000", "Direct"), "1000000002 atoms"),
    ],
)
def test_what_pymatgen_reads_as_another_crystal(content, word):
    with pytest.raises(StructureError, match=word):
        read_poscar(content)
