"""Rules that a reviewer would otherwise repeat: who may import whom, what is exported, which hooks are documented."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import skycap
from skycap.hookspecs import HookSpecs

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "daemon" / "skycap"

VOCABULARY = (
    *(
        "exits",
        "errors",
        "redaction",
        "backoff",
        "unique",
        "payload",
        "admission",
        "job",
        "job_type",
        "outcome",
        "envelope",
        "problems",
        "raw_payload",
        "request",
        "request_document",
        "signing",
    ),
    *(
        "breaker",
        "cache",
        "http_client",
        "repetition",
        "context",
        "health",
        "schedule",
        "hookspecs",
        "index",
        "patience",
        "plugin",
        "sample",
        "tracing",
        "unsubscribing",
    ),
)
LAYERS: tuple[tuple[str, ...], ...] = (
    VOCABULARY,
    ("engine", "services", "registry", "settings", "observe", "embedded"),
    ("intake", "published_kinds"),
    ("client", "discovery"),
    (
        "installation",
        "mailing",
        "housekeeping",
        "absent_tables",
        "caching",
        "databases",
        "overview",
        "scheduling",
        "telemetry",
    ),
    ("display",),
    ("contradictions", "worker", "maintenance", "alerts", "http"),
    ("alerting", "metering", "serving", "status_page", "vital_signs"),
    ("assembly",),
    ("supervisor", "testing"),
    ("demo", "preview"),
    ("checks",),
    ("cli",),
)
"""Lowest first. A module imports from its own package and from lower layers; siblings never import each other."""

ONLY_HERE = {
    "aiosmtplib": {"services"},
    "aiohttp": {"http", "preview", "client", "services"},
    "jinja2": {"services", "display", "plugin", "hookspecs", "registry"},
    "taskiq": {"engine", "worker", "plugin", "hookspecs", "registry"},
    "taskiq_redis": {"engine"},
    "apscheduler": {"maintenance"},
    "typst": {"services"},
    "icalendar": {"services"},
    "dkim": {"services"},
    "dns": {"checks"},
    "click": {"cli"},
    "opentelemetry": {"observe", "tracing"},
    "stamina": {"repetition"},
    "prometheus_client": {"observe"},
    "backports": {"http"},
}
"""Replacing one of these libraries is a change in one room."""


def _modules() -> Iterator[Path]:
    yield from sorted(PACKAGE.rglob("*.py"))


def _room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _layer(room: str) -> int:
    return next((index for index, rooms in enumerate(LAYERS) if room in rooms), -1)


def test_every_module_has_its_place_in_a_layer() -> None:
    rooms = {_room(file) for file in _modules()} - {"__init__", "__main__"}
    assert {room for room in rooms if _layer(room) < 0} == set()


def test_imports_go_one_way() -> None:
    wrong: list[str] = []
    for file in _modules():
        here = _room(file)
        if here in {"__init__", "__main__"}:
            continue
        for name in _imports(file):
            parts = name.split(".")
            if parts[0] != "skycap" or len(parts) == 1:
                continue
            there = parts[1]
            is_below = _layer(there) < _layer(here) or (here in VOCABULARY and there in VOCABULARY)
            if there != here and not is_below:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_the_core_knows_no_plugin_and_no_template() -> None:
    foreign = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in _modules()
        for name in _imports(file)
        if name.split(".")[0] in {"skycap_travel", "skycap_templates"}
    ]
    assert foreign == []


def test_plugins_use_only_what_skycap_exports() -> None:
    files = [*(ROOT / "plugins").rglob("*.py")]
    assert files
    for file in files:
        for name in _imports(file):
            parts = name.split(".")
            if parts[0] == "skycap":
                assert len(parts) == 2, f"{file.relative_to(ROOT)} imports {name}"
                assert parts[1] in skycap.__all__, f"{file.relative_to(ROOT)} imports {name}"


def test_each_library_is_used_in_one_room() -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in _modules()
        for name in _imports(file)
        if name.split(".")[0] in ONLY_HERE and _room(file) not in ONLY_HERE[name.split(".")[0]]
    ]
    assert wrong == []


def test_the_exports_are_sorted_and_complete() -> None:
    assert skycap.__all__ == sorted(skycap.__all__)
    (block,) = [node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.If)]
    for_checkers = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(for_checkers) == skycap.__all__
    for name, home in for_checkers.items():
        assert getattr(skycap, name) is getattr(importlib.import_module(str(home)), name)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = skycap.nonsense


def test_the_command_line_starts_without_pydantic() -> None:
    script = "import skycap.cli, sys; print([name for name in ('pydantic', 'redis') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_skycap_loads_no_server_library() -> None:
    heavy = (
        "aiohttp",
        "asyncpg",
        "redis",
        "taskiq",
        "jinja2",
        "apscheduler",
        "aiosmtplib",
        "structlog",
        "stamina",
        "prometheus_client",
    )
    use = "[getattr(skycap, name) for name in skycap.__all__]"
    script = f"import skycap, sys; {use}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in vars(HookSpecs) if not name.startswith("_")])
def test_every_hook_is_documented_and_tested(name: str) -> None:
    assert getattr(HookSpecs, name).__doc__, f"hook {name} has no docstring"
    tests = (ROOT / "tests" / "unit" / "test_registry.py").read_text()
    assert re.search(rf"def {name}\(", tests), f"no test in test_registry.py implements the hook {name}"


def test_nothing_serialises_with_pickle() -> None:
    wrong = [str(file.relative_to(ROOT)) for file in _modules() if "pickle" in set(_imports(file))]
    assert wrong == []


def test_no_imports_go_in_circles() -> None:
    """Not even those that only type checkers follow."""
    names = {".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts): file for file in _modules()}
    imported = {
        name: {
            target
            for each in _imports(file)
            for target in (each, each.rpartition(".")[0])
            if target in names and target != name
        }
        for name, file in names.items()
    }
    leaves = {name for name, targets in imported.items() if not targets}
    while leaves:
        for name in leaves:
            del imported[name]
        leaves = {name for name, targets in imported.items() if not targets & imported.keys()}
    assert imported == {}
