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
        text("Ca Ti O ! elements", "1 1 3 ! atoms", "Direct # mode", sites=[f"{row} ! one" for row in SITES]),
        text("Ca Ti O", "", "1 1 3", "", "Direct"),
        text("Ca Ti O", "1 1 3", "Direct", head=[HEAD[0], "0.5 1.0 2.0", "7.8 0 0", "0 3.9d0 0", "0 0 0.195D+01"]),
        text(
            "Ca Ti O",
            "1 1 3",
            "Cartesian",
            head=[HEAD[0], "0.5 1.0 2.0", "7.8 0 0", "0 3.9 0", "0 0 1.95"],
            sites=[f"{7.8 * float(x)} {3.9 * float(y)} {1.95 * float(z)}" for x, y, z in map(str.split, SITES)],
        ),
    ],
)
def test_sound_files(content):
    found = read_poscar(content)
    assert found.formula == "Ca1 Ti1 O3"
    assert found.volume == pytest.approx(3.9**3)
    assert found.frac_coords == pytest.approx(read_poscar(text("Ca Ti O", "1 1 3", "Direct")).frac_coords)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (text("1 1 3", "Direct"), "no element symbols"),
        (text("Ca Ti O", "1 4", "Direct"), "line 6: 3 elements"),
        (text("Ca Ti", "1 1 3", "Direct"), "line 6: 2 elements"),
        (text("Ca Vac O", "1 1 3", "Direct"), "'Vac' is not an element symbol"),
        (text("Ca Ti O", "1 1 3", "Cartesian", head=[HEAD[0], "-59.319", *HEAD[2:]]), "line 2: a cell volume"),
        (text("Ca Ti O", "1 1 1000000000", "Direct"), "1000000002 atoms"),
        (text("Ca Ti O", "1 1 3", "Direct", head=[HEAD[0], "1.0 2.0", *HEAD[2:]]), "line 2: '1.0 2.0' is not a scale"),
        (text("Ca Ti O", "1 1 3"), "write Direct or Cartesian"),
        (text("Ca Ti O", "1 1 4", "Direct"), "line 14: '', where three numbers"),
        (text("Ca Ti O", "1 1 3", "Direct", head=[*HEAD[:3], "0 a 0", HEAD[4]]), "line 4: '0 a 0', where three"),
    ],
)
def test_what_pymatgen_reads_as_another_crystal(content, word):
    with pytest.raises(StructureError, match=word):
        read_poscar(content)
