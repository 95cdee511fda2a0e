"""The code blocks of the documentation: what kinds there are, and how each is run or checked."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import typer
import yaml
from atomate2.settings import Atomate2Settings
from jobflow_remote.cli.jf import app as jf
from markdown_it import MarkdownIt

from cryslator_flows.api import Campaign
from cryslator_flows.cli.main import app as cryslator
from cryslator_flows.pairs.sources.task_store import StoreSource
from cryslator_flows.training.recipe import Recipe
from cryslator_flows.training.records import PairRecord
from tests.conftest import ROOT
from tests.support.vasp_files import oszicar
from tests.training.test_evaluate import pair

KINDS = ("bash", "console", "json", "python", "text", "yaml", "")
PART = "# a part of a campaign file"
BINARIES = Path(sys.executable).parent
# A campaign to which parts are added.
WHOLE = {
    "name": "whole",
    "templates": [{"source": "aflow"}],
    "substitutions": [{"kind": "maps", "maps": [{"Mg": "Ca"}]}],
}
# Programs of `console` blocks that are not ours: the shell must accept the line.
FOREIGN = ("cd", "docker", "export", "mkdir", "pmg", "sed", "ssh", ".")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    kind: str
    text: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}, line {self.line}"


def read_blocks(page):
    """All code blocks of a page, also those in lists, and those that are code by their indentation alone."""
    tokens = MarkdownIt().parse(page.read_text())
    return [
        Block(page, token.map[0] + 1, token.info if token.type == "fence" else "indented", token.content)
        for token in tokens
        if token.type in ("fence", "code_block")
    ]


def prepare(folder, perovskite, rutile):
    """What the pages take for granted: structures, pairs, directories of VASP."""
    (folder / "structures").mkdir()
    perovskite.to(str(folder / "structures" / "a.cif"))
    rutile.to(str(folder / "structures" / "POSCAR"))
    rows = []
    for number in range(10):
        larger = perovskite.copy()
        larger.scale_lattice(perovskite.volume * (1.02 + 0.01 * number))
        rows.append(json.dumps(pair(larger, perovskite, f"t{number}", -3.0)))
    run = folder / "vasp-runs" / "one"
    run.mkdir(parents=True)
    (run / "OSZICAR").write_text(oszicar([5, 3]))
    (folder / "pairs").mkdir()
    for name, cation in (("train", "Ca"), ("val", "Sr"), ("test", "Ba")):
        with gzip.open(folder / "pairs" / f"pairs-{name}.jsonl.gz", "wt") as file:
            file.write("\n".join(rows).replace('"Ca"', f'"{cation}"'))


def run_page(blocks, folder, binaries=BINARIES):
    """Run and check the blocks of a page, in its order, in one folder and with one Python namespace.

    The shell finds commands in the folder ``binaries`` first.
    """
    namespace = {"__name__": "page"}
    output = ""
    for block in blocks:
        try:
            if block.kind == "bash":
                output = run_shell(block.text, folder, binaries)
            elif block.kind == "python":
                output = run_python(block.text, namespace, folder) or output
            elif block.kind == "text":
                check_output(block.text, output)
            else:
                check(block, folder)
        except Exception as error:
            raise AssertionError(f"{block}: {error}") from error


def run_shell(script, folder, binaries=BINARIES):
    environment = {**os.environ, "PATH": f"{binaries}:{BINARIES}:{os.environ['PATH']}", "COLUMNS": "160"}
    command = ["bash", "-euo", "pipefail", "-c", script]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


def run_python(code, namespace, folder):
    if name := re.match(r"# (\w+)\.py\n", code):
        (folder / f"{name[1]}.py").write_text(code)
        importlib.import_module(name[1])
        return ""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "page", "exec", dont_inherit=True), namespace)
    return printed.getvalue()


def check_output(shown, output):
    """Every line that is shown was printed, whatever its numbers: they are not the same on all machines."""
    printed = {words(line) for line in output.splitlines()}
    for line in shown.splitlines():
        assert words(line) in printed, f"{line!r} is not in\n{output}"


def words(line):
    return re.sub(r"[-+]?\d+(\.\d+)?", "#", " ".join(line.split()))


def check(block, folder):
    """Check what is not run."""
    if block.kind == "yaml":
        check_yaml(block.text, folder)
    elif block.kind == "json":
        PairRecord.model_validate_json(block.text)
    elif block.kind in ("console", ""):
        for command in block.text.replace("\\\n", " ").splitlines():
            check_command(command)
    else:
        raise AssertionError(f"nobody checks blocks of the kind {block.kind!r}; choose from {KINDS}")


def check_yaml(text, folder):
    """A file, which is also written, or a part of one: its first line says which."""
    head, *_ = text.splitlines()
    name = re.fullmatch(r"# (\S+\.yaml)(, a part of a campaign file)?", head)
    if name:
        (folder / name[1]).write_text(text)
    content = yaml.safe_load(text)
    if head == PART or (name and name[2]):
        Campaign.model_validate(WHOLE | content).to_maker()
    elif name and name[1] == ".atomate2.yaml":
        assert set(content) <= set(Atomate2Settings.model_fields)
    elif name and "store" in content:
        StoreSource.model_validate(content)
    elif name and ("train" in content or "pairs" in content):
        Recipe.from_file(folder / name[1])
    elif name:
        Campaign.from_file(folder / name[1]).to_flow()
    else:
        raise AssertionError(f"{head!r}: begin with the name of the file, as in '# campaign.yaml', or with {PART!r}")


def check_command(line):
    """Programs, subcommands and options exist; nothing is run."""
    program, *arguments = shlex.split(line, comments=True) or ["."]
    if program in ("cryslator", "jf"):
        parse(typer.main.get_command(cryslator if program == "cryslator" else jf), arguments)
    elif program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.M)
        assert set(arguments) <= set(targets), f"{line}: make has {targets}"
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        (found,) = re.findall(r"^(?:cryslator-flows|\.)\[(.*)\]$", arguments[1])
        assert set(found.split(",")) <= set(extras), f"{line}: extras are {list(extras)}"
    elif program == "python":
        assert arguments[0] == "-m", f"{line}: neither a module nor known here"
        subprocess.run([sys.executable, "-c", f"import {arguments[1]}"], check=True)
    else:
        assert program in FOREIGN, f"{line}: {program!r} is not known here; choose from {FOREIGN}"
        subprocess.run(["bash", "-n", "-c", line], check=True)


def parse(command, arguments):
    """Let a command and its subcommands read their arguments."""
    context = command.make_context(command.name, list(arguments), resilient_parsing=False)
    while hasattr(command, "commands"):
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        _, command, rest = command.resolve_command(context, rest)
        context = command.make_context(command.name, rest, parent=context)
