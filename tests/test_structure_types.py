"""The command about the library of structure types."""

import pytest
from typer.testing import CliRunner

from cryslator_flows.cli.main import app


def test_templates_lists_and_draws_structure_types(run, tmp_path):
    code, out, err = run("templates", "--formula", "ABC3", "--min-members", 300, "--draw", tmp_path / "types.png")
    assert code == 0
    assert [word for word in out.split() if ":mp-" in word] == ["CsYbF3:mp-8398", "ErLuO3:mp-778151"]
    assert "2 structure types" in err
    assert (tmp_path / "types.png").read_bytes().startswith(b"\x89PNG")


def test_piped_types_are_a_line_each_and_a_formula_is_said_to_be_its_type():
    result = CliRunner().invoke(app, ["templates", "--formula", "CaTiO3", "--min-members", "300"])
    titles, first, second = (line.split("\t") for line in result.stdout.splitlines())
    assert len(titles) == len(first) == len(second) == 7
    assert first[:4] == ["CsYbF3:mp-8398", "ABC3", "(Cubic) Perovskite", "221"]
    assert "--formula CaTiO3 lists the formula type ABC3, whatever the elements" in result.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--formula", "foo"], "anonymous_formulas: 'foo' is not a formula type"),
        (["--element", "Xx"], "elements: 'Xx' is not an element symbol"),
        (["--name", "spinl"], "did you mean 'Spinel'?"),
        (["--name", "perovskite"], "did you mean '(Cubic) Perovskite' or 'Orthorhombic Perovskite'?"),
        (["--name", "olivine"], "such as olivine (28) and garnet (80), are not in the library: take a CIF"),
        (["--draw", "types.gif"], "--draw types.gif: name a file that ends in .png, .svg or .pdf"),
    ],
)
def test_templates_names_mistakes(run, given, words):
    code, _, err = run("templates", *given)
    assert code == 2
    assert words in err
