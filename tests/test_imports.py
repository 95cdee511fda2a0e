"""Data flows one way: a file imports only from floors below its own, and nothing imports the package root."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "cryslator_flows"
FLOORS = {
    "errors": -2, "gate": -1, "whole_files": -1, "defaults": 0, "schemas": 0, "settings": 1, "console": 1,
    "processes": 1,
    "crystals": 1, "yaml_files": 1, "translator": 2, "relaxation": 2, "pairs": 3, "jobs": 4, "flows": 5, "campaign": 6,
    "cli_campaigns": 8, "cli_models": 8, "cli_pairs": 8, "cli": 9, "jf_plugin": 9,
}  # fmt: skip
FILES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
    return {name for name in found if name.split(".")[0] == "cryslator_flows"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(path):
        assert part(module), f"{path} imports the package root"
        assert part(module) == own or FLOORS[part(module)] < FLOORS[own], f"{path} imports {module}"


def test_no_cycles_between_files():
    graph = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): imports(path)
        for path in FILES
    }
    done, active = set(), []

    def visit(module):
        assert module not in active, f"cycle: {[*active, module]}"
        if module in done or module not in graph:
            return
        active.append(module)
        for other in graph[module]:
            visit(other)
        done.add(active.pop())

    for module in graph:
        visit(module)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("cryslator_flows", ["torch", "pymatgen", "jobflow"]),
        ("cryslator_flows.cli", ["torch", "pymatgen", "jobflow"]),
        ("cryslator_flows.translator.fit", ["pymatgen", "pydantic", "jobflow", "scipy"]),
        ("cryslator_flows.translator.reference.fit", ["pymatgen", "pydantic", "jobflow", "scipy"]),
        ("cryslator_flows.translator.translator", ["jobflow", "atomate2"]),
        ("cryslator_flows.relaxation.counting", ["torch"]),
        ("cryslator_flows.relaxation.properties", ["torch", "jobflow", "atomate2"]),
        ("cryslator_flows.pairs.make", ["torch", "jobflow"]),
        ("cryslator_flows.pairs.readers", ["torch", "jobflow"]),
        ("cryslator_flows.pairs.comparisons", ["torch", "jobflow"]),
        ("cryslator_flows.flows.screening", ["torch"]),
        ("cryslator_flows.flows.properties", ["torch"]),
    ],
)
def test_heavy_packages_stay_out(module, absent):
    code = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
