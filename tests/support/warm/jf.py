"""Run jobflow-remote's command, whose tree of commands takes 0.1 s to build: the server has it built."""

import sys

from jobflow_remote.cli.jf import app
from typer.main import except_hook, get_command

COMMAND = get_command(app)


def main() -> None:
    """Run the command as the app does when it is called."""
    sys.excepthook = except_hook
    COMMAND()
