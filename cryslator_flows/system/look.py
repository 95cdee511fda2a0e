"""Colours of the page, of its figures, of the pictures and of the documentation.

Colours of data are of the palette of Okabe and Ito, which people of all kinds of colour vision tell apart. Each has a
contrast of 3 at least on light and on dark paper, and each colour of text 4.5.
"""

from __future__ import annotations

from typing import Any

BLUE, GREEN, VERMILION, PURPLE, GREY = "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#77868a"
START_COLORS = {
    "unrelaxed": GREY, "scaled": PURPLE, "translated": GREEN, "mlip": VERMILION, "translated_mlip": BLUE,
}  # fmt: skip
# CSS variables: text, background, lines, text of less weight, links and good news, bad news, background of warnings.
LIGHT = {
    "ink": "#1d2b2a", "paper": "#ffffff", "line": "#ccd6d4", "soft": "#5a6b69", "accent": "#00795a", "bad": "#b04a00",
    "warning": "#f6e3b0",
}  # fmt: skip
DARK = {
    "ink": "#e4ecea", "paper": "#15201f", "line": "#3a4a48", "soft": "#9fb0ad", "accent": "#2fb98f", "bad": "#f0905a",
    "warning": "#4d3d12",
}  # fmt: skip
_AXIS = {"gridcolor": "var(--line)", "linecolor": "var(--line)", "zeroline": False}
_SIDE = {**_AXIS, "linecolor": "var(--ink)"}
_BOX = {**_AXIS, "backgroundcolor": "rgba(0,0,0,0)"}
# Plotly's template for all figures of the page, which fills in the variables of its scheme.
TEMPLATE: dict[str, Any] = {
    "layout": {
        "colorway": [BLUE, VERMILION, GREEN, PURPLE, GREY],
        "font": {"color": "var(--ink)", "family": "system-ui, sans-serif", "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": "var(--paper)", "bordercolor": "var(--ink)", "font": {"color": "var(--ink)"}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--soft)", "activecolor": "var(--ink)"},
        "xaxis": _AXIS, "yaxis": _AXIS,
        "ternary": {"bgcolor": "rgba(0,0,0,0)", "aaxis": _SIDE, "baxis": _SIDE, "caxis": _SIDE},
        "scene": {"bgcolor": "rgba(0,0,0,0)", "xaxis": _BOX, "yaxis": _BOX, "zaxis": _BOX},
    }
}  # fmt: skip


def style_sheet() -> str:
    """Return the CSS variables, of the dark scheme too; paper is always light."""
    light, dark = ("".join(f"--{name}: {color}; " for name, color in scheme.items()) for scheme in (LIGHT, DARK))
    return (
        f":root {{ color-scheme: light dark; {light}}}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n"
    )
