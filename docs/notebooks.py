"""Notebooks: pages of the site made from their stored outputs, and the command that runs them and stores these.

Example: ``python docs/notebooks.py workflows/tutorial.ipynb``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat


def to_markdown(path: Path) -> str:
    """Return a notebook as a Markdown page, with its stored outputs; nothing is run."""
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts += [fenced("python", cell.source), *map(show, cell.outputs)]
    return "\n\n".join(parts)


def show(output: nbformat.NotebookNode) -> str:
    """Return the richest form of an output that a page can show."""
    if output.output_type == "stream":
        return fenced("text", output.text)
    if "image/png" in output.data:
        return f'<img alt="Plot of the cell above" src="data:image/png;base64,{output.data["image/png"].strip()}">'
    if table := re.search(r"<table.*</table>", output.data.get("text/html", ""), flags=re.S):
        return table[0].replace(' border="1" class="dataframe"', "")
    return fenced("text", output.data["text/plain"])


def fenced(language: str, text: str) -> str:
    """Return text as a block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def run(path: Path) -> None:
    """Run a notebook and store its outputs."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(path.parent)}}).execute()
    clean(notebook)
    nbformat.write(notebook, path)


def clean(notebook: nbformat.NotebookNode) -> None:
    """Remove what differs in every run: counts, messages, times and progress bars."""
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [output for output in cell.outputs if stays(output)]
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = None


def stays(output: nbformat.NotebookNode) -> bool:
    """Return True for what a cell prints, draws or ends with; messages and progress bars come and go with time."""
    if output.output_type == "stream":
        return output.name != "stderr"
    return output.output_type == "execute_result" or "image/png" in output.data


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run(Path(name))
