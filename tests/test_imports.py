"""Data flows one way: a file imports only from its own floor and those below, and nothing imports the package root."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "cryslator_flows"
# Floors from the ground up; a job may make a flow, so that jobs and flows share one.
FLOORS = [
    "errors", "settings", "config", "system", "documents", "crystals", "translator", "training", "counting", "analysis",
    "engines", "pairs", "screening", "jobs flows", "campaign", "results", "running", "report", "serving", "api", "cli",
]  # fmt: skip
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
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
        assert FLOOR_OF[part(module)] <= FLOOR_OF[own], f"{path} imports {module}"


def test_each_name_of_a_file_or_type_stands_once():
    names = Counter(path.stem for path in FILES if path.stem != "__init__")
    types = Counter(
        node.name for path in FILES for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in (names + types).items() if count > 1] == []


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
        ("cryslator_flows.cli.main", ["torch", "pymatgen", "jobflow"]),
        ("cryslator_flows.training.fit", ["pymatgen", "pydantic", "jobflow", "scipy"]),
        ("cryslator_flows.training.reference_fit", ["pymatgen", "pydantic", "jobflow", "scipy"]),
        ("cryslator_flows.translator.translator", ["jobflow", "atomate2"]),
        ("cryslator_flows.counting", ["torch"]),
        ("cryslator_flows.analysis.property_errors", ["torch", "jobflow", "atomate2"]),
        ("cryslator_flows.pairs.make", ["torch", "jobflow"]),
        ("cryslator_flows.pairs.readers", ["torch", "jobflow"]),
        ("cryslator_flows.pairs.sources.comparisons", ["torch", "jobflow"]),
        ("cryslator_flows.flows.screening", ["torch"]),
        ("cryslator_flows.flows.property_comparison", ["torch"]),
    ],
)
def test_heavy_packages_stay_out(module, absent):
    code = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
