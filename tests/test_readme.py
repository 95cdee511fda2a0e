"""Every command of the README runs, on files that the README itself shows or describes."""

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from cryslator_flows.analysis.savings import measure_all_savings
from cryslator_flows.api import Campaign
from cryslator_flows.report.headline import describe_saving
from cryslator_flows.training.evaluate import INPUTS, Evaluation
from cryslator_flows.translator.default_model import DEFAULT_MODEL
from docs.savings_picture import PICTURE, digest, draw, headline, read_rows
from tests.conftest import ROOT
from tests.support.pages import prepare, run_python, run_shell

README = (ROOT / "README.md").read_text()
MEASUREMENTS = (ROOT / "docs/measurements.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


@pytest.fixture
def folder(tmp_path, perovskite, rutile):
    """A folder with what the README's commands take."""
    for block in blocks("yaml"):
        name = re.match(r"# (\S+\.yaml)", block).group(1)
        (tmp_path / name).write_text(block)
    prepare(tmp_path, perovskite, rutile)
    return tmp_path


def test_first_screen_has_the_two_commands_and_a_picture():
    top = README.splitlines()[:40]
    assert "make demo" in top
    assert "make test" in top
    assert len(README.splitlines()) < 150
    (picture,) = re.findall(r"^!\[.*\]\((.*)\)", "\n".join(top), flags=re.M)
    recording = (ROOT / picture).read_text()
    assert 10_000 < len(recording) < 150_000
    assert "prefers-reduced-motion" in recording
    assert "Mean steps, unrelaxed" in recording


def read_tests(model: str) -> dict[str, Evaluation]:
    """Evaluations of a model by what was scored."""
    rows = json.loads((ROOT / "models" / model / "metrics.json").read_text())["test"]
    return {row["chemistry"]: Evaluation.model_validate(row) for row in rows}


def test_picture_and_figures_of_the_demo_are_those_of_its_rows(tmp_path):
    """`python docs/savings_picture.py runs/mn-oxides-laptop` makes both anew."""
    # Versions of matplotlib draw fonts and margins otherwise.
    for path in (draw(tmp_path / "savings.png"), PICTURE):
        with Image.open(path) as picture:
            assert picture.text["Source"] == digest()
    assert headline(read_rows()) in README
    assert headline(read_rows()) in MEASUREMENTS


def test_the_recording_ends_with_the_saving_of_the_demo_s_rows():
    """`docs/record_terminal.py` records it anew."""
    (saving,) = measure_all_savings(read_rows())
    shown = re.sub(r"<[^>]+>", "", (ROOT / "docs/demo.svg").read_text())
    # Gaps between runs of text of one colour are no characters.
    assert "".join(describe_saving(saving).split()) in "".join(html.unescape(shown).split())


def test_figures_of_the_model_are_those_of_its_metrics():
    tests = read_tests(DEFAULT_MODEL)
    whole = tests["all"]
    for name in ("input copied", "volume only", DEFAULT_MODEL):
        row = whole.score(name).structure
        figures = f"{row.volume_error:.1%} | {row.displacement:.3f} ({row.displacement_median:.3f}) A"
        assert f"| {name} | {figures} | {row.strict_match:.1%} |" in MEASUREMENTS
    own = whole.score(DEFAULT_MODEL)
    assert f"{own.energy_mae:.3f} eV/atom" in MEASUREMENTS
    assert f"{own.uncertainty.coverage_90:.1%} of the 90 % intervals" in MEASUREMENTS
    copied, score = whole.score("input copied").structure, own.structure
    for before, after in ((copied.volume_error, score.volume_error), (copied.strict_match, score.strict_match)):
        assert f"{before:.1%} -> {after:.1%}" in README
    assert f"{own.energy_mae:.3f} eV/atom; {own.uncertainty.coverage_90:.1%}" in README
    oxides = {
        "cryslator-2023": read_tests("cryslator-2023")["all"],
    }
    oxides[DEFAULT_MODEL] = tests["mp_oxide_pairs_test, all"]
    for test in oxides.values():
        for name in {score.method for score in test.scores if score.energy_mae is not None}:
            maes = (test.score(name, kind).energy_mae for kind in INPUTS)
            assert f"| {name} | {' | '.join(f'{mae:.3f}' for mae in maes)} |" in MEASUREMENTS


def test_make_targets_are_what_is_tested():
    """`make demo` runs the campaign of the next test; `make test` is what runs this."""
    makefile = (ROOT / "Makefile").read_text()
    assert "demo: .venv/.stamp\n\t$(BIN)/cryslator screen workflows/mn-oxides-laptop.yaml\n" in makefile
    assert "\nmake test\n" in (ROOT / ".ci/run").read_text()


def test_the_relaxation_of_a_vasp_campaign(folder):
    campaign = yaml.safe_load((folder / "campaign.yaml").read_text())
    campaign |= yaml.safe_load((folder / "relaxation.yaml").read_text())
    maker = Campaign.model_validate(campaign).to_maker().select_maker
    assert maker.relax_maker.control_starts == ("unrelaxed", "translated", "mlip")
    first = maker.relax_maker.comparison_maker.relax_maker.relax_maker1
    assert first.input_set_generator.user_incar_settings["ENCUT"] == 600
    assert first.input_set_generator.auto_ispin
    assert first.run_vasp_kwargs["vasp_cmd"] == "srun vasp_std"


@pytest.mark.slow
def test_demo(tmp_path):
    scripts = Path(sys.executable).parent
    command = [scripts / "cryslator", "screen", ROOT / "workflows/mn-oxides-laptop.yaml"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "runs/mn-oxides-laptop/summary.json").read_text())
    assert summary["translated"] >= 200
    assert summary["selected"] == summary["relaxed"] == 16
    assert summary["savings"][0]["n_pairs"] >= 6
    assert "No electronic (SCF) steps" in result.stdout


@pytest.mark.slow
def test_blocks_run_in_their_order(folder, warm_commands, monkeypatch):
    """Commands and Python, in one folder: what the first campaign leaves is what others look at."""
    monkeypatch.chdir(folder)
    found = re.findall(r"^```(bash|python)\n(.*?)^```", README, flags=re.M | re.S)
    assert [kind for kind, _ in found].count("python") >= 3
    for kind, text in found:
        if kind == "bash":
            run_shell(text, folder, warm_commands.bin)
        else:
            run_python(text, {"__name__": "readme"}, folder)
