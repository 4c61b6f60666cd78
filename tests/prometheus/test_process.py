"""The figures of the process where a unit says ``ProcSubset=pid``: /proc has the process, and nothing of the host."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from tests.support.skips import skip

SCRIPT = """
import json
import sys
from pathlib import Path

from skycap.observe.process import of_process

figures = {family.name: family.samples[()] for family in of_process()}
json.dump({"figures": figures, "has_stat": Path("/proc/stat").exists()}, sys.stdout)
"""
OWN_PROC = "mount -t proc -o subset=pid proc /proc"


def test_all_figures_are_known_where_proc_shows_nothing_but_processes() -> None:
    namespaces = ["unshare", "--map-root-user", "--pid", "--fork", "--mount"]
    began = time.time()
    tried = subprocess.run([*namespaces, "sh", "-c", OWN_PROC], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        skip(f"no /proc of its own may be mounted here: {tried.stderr.strip()}")
    command = [*namespaces, "sh", "-c", f'{OWN_PROC} && exec "$@"', "sh", sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert not said["has_stat"]
    figures = said["figures"]
    assert began - 1 < figures["process_start_time_seconds"] < time.time() + 1
    assert figures["process_resident_memory_bytes"] > 1_000_000
    assert 3 <= figures["process_open_fds"] < figures["process_max_fds"]
    assert figures.keys() >= {"process_cpu_seconds_total", "process_virtual_memory_bytes", "process_threads"}
