"""The command about the library of structure types."""

import pytest


def test_templates_lists_and_draws_structure_types(run, tmp_path):
    code, out, err = run("templates", "--formula", "ABC3", "--min-members", 300, "--draw", tmp_path / "types.png")
    assert code == 0
    assert [word for word in out.split() if ":mp-" in word] == ["CsYbF3:mp-8398", "ErLuO3:mp-778151"]
    assert "2 structure types" in err
    assert (tmp_path / "types.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--formula", "foo"], "anonymous_formulas: 'foo' is not a formula type"),
        (["--element", "Xx"], "elements: 'Xx' is not an element symbol"),
        (["--name", "spinl"], "did you mean 'Spinel'?"),
        (["--draw", "types.gif"], "--draw types.gif: name a file that ends in .png, .svg or .pdf"),
    ],
)
def test_templates_names_mistakes(run, given, words):
    code, _, err = run("templates", *given)
    assert code == 2
    assert words in err
