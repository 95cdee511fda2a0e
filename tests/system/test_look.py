"""Colours are readable on light and dark paper, and the same in the documentation."""

import re

import pytest
from matplotlib.colors import to_rgb

from cryslator_flows.documents.relaxations import STARTS
from cryslator_flows.system.look import BLUE, DARK, GREEN, GREY, LIGHT, PURPLE, START_COLORS, VERMILION, style_sheet
from tests.conftest import ROOT


def luminance(color):
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first, second):
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast_by_wcag_aa(scheme):
    for name in ("ink", "soft", "accent", "bad"):
        assert contrast(scheme[name], scheme["paper"]) >= 4.5, name
    assert contrast(scheme["ink"], scheme["warning"]) >= 4.5
    for color in (BLUE, GREEN, VERMILION, PURPLE, GREY):
        assert contrast(color, scheme["paper"]) >= 3, color


def test_each_start_has_a_color_of_its_own():
    assert set(START_COLORS) == set(STARTS)
    assert len(set(START_COLORS.values())) == len(START_COLORS)


def test_style_sheet_and_documentation_have_these_colors():
    assert f"--ink: {LIGHT['ink']};" in style_sheet()
    assert f"--ink: {DARK['ink']};" in style_sheet()
    known = {BLUE, GREEN, VERMILION, PURPLE, GREY, *LIGHT.values(), *DARK.values()}
    assert set(re.findall(r"#[0-9a-f]{6}\b", (ROOT / "docs/extra.css").read_text())) <= known


def test_no_other_file_of_the_package_has_colors():
    files = [path for path in (ROOT / "cryslator_flows").rglob("*.py") if path.name != "look.py"]
    assert [path.name for path in files if re.search(r"[\"']#[0-9a-f]{3,6}[\"']", path.read_text())] == []
