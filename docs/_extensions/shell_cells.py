"""A Sphinx extension: a cell that begins with ``%%bash`` gives out whole lines.

IPython's own magic hands over what a command prints in pieces of a hundred bytes, and a page shows it so. This one
waits for the command's end, and then gives out standard error and standard output, each in one piece.
"""

import os
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

STARTUP = """
import subprocess
import sys

from IPython.core.magic import register_cell_magic


@register_cell_magic
def bash(line, cell):
    command = ["bash", "-e", "-c", cell]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    sys.stderr.write(done.stderr)
    sys.stdout.write(done.stdout)
    done.check_returncode()
"""


def setup(app: Sphinx) -> dict[str, Any]:
    """Give the processes that run cells a folder of settings with this magic."""
    settings = Path(app.doctreedir) / "ipython"
    startup = settings / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "bash.py").write_text(STARTUP, encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
