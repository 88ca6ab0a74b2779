"""Scripts as a user calls them, but in this process: torch is imported once and not once per script."""

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from saltseg import cli, processes

SCRIPTS = Path(__file__).parents[1] / "scripts"


def call(script: str, *arguments: str) -> int:
    """``python scripts/SCRIPT.py ARGUMENTS`` and, likewise in this process, the scripts that it starts; exit code."""
    path = str(SCRIPTS / f"{script}.py")
    with mock.patch.object(sys, "argv", [path, *arguments]), mock.patch.object(processes, "call", _part_of_run):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as leaving:
            return int(leaving.code or 0)
    return 0


def _part_of_run(command: Sequence[str]) -> int:
    """Stands in for `saltseg.processes.call`."""
    with mock.patch.dict(os.environ, {cli.PART_OF_RUN: "1"}):
        return call(Path(command[0]).stem, *command[1:])
