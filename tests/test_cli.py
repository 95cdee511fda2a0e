import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pymatgen.core import DummySpecies, Lattice, Structure


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_translate_a_file(run, tmp_path, perovskite):
    perovskite.to(str(tmp_path / "a.cif"))
    code, out, _ = run("translate", tmp_path / "a.cif", tmp_path / "out.jsonl")
    assert code == 0
    assert "1 translated, 0 failed" in out
    (row,) = lines(tmp_path / "out.jsonl")
    assert Structure.from_dict(row["structure"]).composition == perovskite.composition
    assert row["formation_energy_per_atom"] < 0 < row["formation_energy_uncertainty"]
    assert "error" not in row


def test_translate_a_batch_goes_on_past_bad_input(run, tmp_path, perovskite, rutile):
    disordered = Structure(Lattice.cubic(4), [{"Fe": 0.5, "Mn": 0.5}], [[0, 0, 0]])
    rows = [perovskite, disordered, Structure(Lattice.cubic(30), ["Fe"], [[0, 0, 0]]), rutile]
    source = tmp_path / "in.jsonl.gz"
    with gzip.open(source, "wt") as file:
        file.write("\n".join(json.dumps(row.as_dict()) for row in rows) + "\nnonsense\n")
    code, out, err = run("translate", source, tmp_path / "out.jsonl")
    assert code == 1
    assert "2 translated, 3 failed" in out
    assert out.endswith("failed 1 disordered failed 1 isolated atom failed 1 not readable as a crystal")
    assert "failed: the last one:" in err
    assert "line 5" in err
    results = lines(tmp_path / "out.jsonl")
    assert ["error" in row for row in results] == [False, True, True, False, True]
    assert results[1]["error"].startswith(f"{source}, line 2, site 0: disordered")
    assert "isolated" in results[2]["error"]
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl.gz", "out.jsonl"}


def test_stopped_translation_leaves_nothing(run, tmp_path, perovskite, monkeypatch):
    (tmp_path / "in.jsonl").write_text(json.dumps(perovskite.as_dict()) + "\n")

    def stopped(self, rows):
        yield next(iter(rows))[0], self.translate(perovskite)
        raise KeyboardInterrupt

    monkeypatch.setattr("cryslator_flows.translator.translator.Translator.translate_labelled", stopped)
    code, _, err = run("translate", tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert code == 130
    assert "Stopped after 1 structures. Nothing was written; run the same command to restart." in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text(""), "empty file"),
        (lambda path: path.write_text("nonsense"), "not readable"),
        (lambda path: None, "no such file"),
        (
            lambda path: Structure(Lattice.cubic(3), ["Cu"], [[0] * 3]).make_supercell([10, 10, 20]).to(str(path)),
            "2000",
        ),
    ],
)
def test_translate_nothing_but_bad_input(run, tmp_path, make, words):
    make(tmp_path / "a.cif")
    code, out, err = run("translate", tmp_path / "a.cif", tmp_path / "out.jsonl")
    assert code == 2
    assert err.count("Error:") == 1
    assert words in err
    assert "a.cif" in err
    assert "Traceback" not in err + out


def test_finished_output_is_not_touched_by_a_failing_run(run, tmp_path):
    (tmp_path / "out.jsonl").write_text("precious")
    assert run("translate", tmp_path / "none.cif", tmp_path / "out.jsonl", "--overwrite")[0] == 2
    assert (tmp_path / "out.jsonl").read_text() == "precious"


def test_output_is_never_the_input(run, tmp_path, perovskite, tiny_model):
    folder = tmp_path / "folder"
    folder.mkdir()
    perovskite.to(str(folder / "a.cif"))
    before = (folder / "a.cif").read_text()
    (tmp_path / "link").symlink_to(folder / "a.cif")
    for target in (folder / "a.cif", tmp_path / "link"):
        code, _, err = run("translate", folder / "a.cif", target, "--model", tiny_model.path)
        assert (code, "is read by this command; give another file" in err) == (2, True)
        assert (folder / "a.cif").read_text() == before
    for more in ((), ("--overwrite",)):
        assert run("translate", folder, folder / "out.jsonl", "--model", tiny_model.path, *more)[0] == 0
        assert [row["source"] for row in lines(folder / "out.jsonl")] == [str(folder / "a.cif")]
    assert {path.name for path in folder.iterdir()} == {"a.cif", "out.jsonl"}
    code, _, err = run("translate", tmp_path / ("n" * 300), tmp_path / "out.jsonl")
    assert (code, "nnn: File name too long" in err, "out.jsonl" in err) == (2, True, False)


def test_output_through_links_and_to_devices(run, tmp_path, perovskite, tiny_model):
    perovskite.to(str(tmp_path / "a.cif"))
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out.jsonl").symlink_to("target.jsonl")
    (tmp_path / "out.jsonl.partial").symlink_to("precious")
    assert run("translate", tmp_path / "a.cif", tmp_path / "out.jsonl", "--model", tiny_model.path)[0] == 0
    assert len(lines(tmp_path / "target.jsonl")) == 1
    assert (tmp_path / "out.jsonl").is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"
    assert run("translate", tmp_path / "a.cif", "/dev/null", "--model", tiny_model.path)[0] == 0
    assert Path("/dev/null").is_char_device()
    code, _, err = run("translate", tmp_path / "a.cif", "/dev/full", "--model", tiny_model.path)
    assert code == 2
    assert "/dev/full: cannot be written (No space left on device); free some space" in err
    for target in ("", ".", tmp_path):
        code, _, err = run("translate", tmp_path / "a.cif", target)
        assert (code, err.count("is a folder with files; give a new folder, or the name of a file")) == (2, 1)
    code, _, err = run("translate", tmp_path / "a.cif", tmp_path / "precious")
    assert (code, "precious: is a file; give a new folder, or end the name in one of .jsonl" in err) == (2, True)


def test_names_are_text(run, tmp_path, perovskite, tiny_model):
    folder = tmp_path / "my[" / "structures]"
    folder.mkdir(parents=True)
    perovskite.to(str(folder / "a.cif"))
    target = tmp_path / "o[bold] :smile: \x1b[2J.jsonl"
    code, out, _ = run("translate", folder / "a.cif", target, "--model", tiny_model.path)
    assert code == 0
    assert out.endswith(r"o[bold] :smile: \x1b[2J.jsonl")
    (folder / "\x1b]0;x\x07.cif").write_text("nonsense")
    code, out, err = run("translate", folder, tmp_path / "x[" / "b].jsonl", "--model", tiny_model.path)
    assert (code, "no folder" in err, "x[/b].jsonl" in err) == (2, True, True)
    code, out, err = run("translate", folder, target, "--model", tiny_model.path, "--overwrite")
    assert code == 1
    assert r"my[/structures]/\x1b]0;x\x07.cif: not readable" in err
    assert "\x1b" not in out + err


def test_every_terminal_and_every_user(tmp_path, perovskite, tiny_model):
    """A terminal of few characters, and a user without home whom the machine does not know, as in containers."""
    (tmp_path / "кристаллы").mkdir()
    perovskite.to(str(tmp_path / "кристаллы" / "a.cif"))
    code = (
        "import pwd\n"
        "def unknown(uid): raise KeyError(f'getpwuid(): uid not found: {uid}')\n"
        "pwd.getpwuid = unknown\n"
        "from cryslator_flows.cli.main import main\n"
        "try: main()\n"
        "finally: import jobflow"
    )
    known = ("PATH", "PYTHONPATH", "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    environment = {name: os.environ[name] for name in known if name in os.environ}
    command = [sys.executable, "-c", code, "translate", "кристаллы", "вывод.jsonl", "--model", str(tiny_model.path)]
    ended = subprocess.run(
        command, cwd=tmp_path, env={**environment, "PYTHONIOENCODING": "latin-1"}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert r"1 translated, 0 failed: \u0432\u044b\u0432\u043e\u0434.jsonl" in ended.stdout


def test_a_command_that_is_stopped_says_so_in_one_line(run, monkeypatch):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr("cryslator_flows.translator.model_folder.list_models", stopped)
    assert run("models") == (130, "", "Stopped. Run the same command to repeat it.")


def test_unwritable_output_and_unknown_model(run, tmp_path, perovskite):
    perovskite.to(str(tmp_path / "a.cif"))
    code, _, err = run("translate", tmp_path / "a.cif", tmp_path / "no" / "folder.jsonl")
    assert code == 2
    assert "cannot be written" in err
    code, _, err = run("translate", tmp_path / "a.cif", tmp_path / "out.jsonl", "--model", "nope")
    assert code == 2
    assert "model 'nope': unknown; choose from: " in err


def test_dummy_species_in_a_row(run, tmp_path):
    odd = Structure(Lattice.cubic(4), [DummySpecies("X")], [[0, 0, 0]])
    (tmp_path / "in.jsonl").write_text(json.dumps(odd.as_dict()))
    code, _, err = run("translate", tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert code == 2
    assert "not an element" in err


def test_screen_names_the_mistake(run, tmp_path):
    (tmp_path / "c.yaml").write_text("nam: x")
    code, _, err = run("screen", tmp_path / "c.yaml")
    assert code == 2
    assert "c.yaml, line 1, file: unknown key 'nam'; did you mean 'name'?" in err


def test_models_lists_the_released_ones(run, monkeypatch):
    monkeypatch.setattr("cryslator_flows.system.console.out._width", 80)
    code, out, _ = run("models")
    assert code == 0
    # No column gives way on a narrow terminal: model, elements, error, volume, out of domain.
    assert re.search(r"cryslator-universal 85 0\.\d+ [\d.]+% [\d.]+% eV/atom", out)
    assert "cryslator-universal, version" in out


COMMANDS = [
    "screen",
    "submit",
    "status",
    "report",
    "serve",
    "export",
    "translate",
    "evaluate",
    "train",
    "calibrate",
    "map",
    "models",
]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Usage" in out
    if command and command != ["models"]:
        assert "Example" in out


def test_console_script_is_installed():
    result = subprocess.run([Path(sys.executable).with_name("cryslator"), "--help"], capture_output=True, text=True)
    assert result.returncode == 0
    assert "screen" in result.stdout
