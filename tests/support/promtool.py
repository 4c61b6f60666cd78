"""promtool, Prometheus' own judge of metrics, rules and configurations."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.skips import skip


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    """What it says on its standard error, which is nothing where all is well; fails when it finds an error."""
    program = shutil.which("promtool")
    if program is None:
        skip("there is no promtool here (apt install prometheus)")
    done = subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr
