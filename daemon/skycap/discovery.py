"""Finds the installed plugins (entry points, then a folder of modules) and loads them into a Registry."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog

from skycap.errors import PluginError
from skycap.hookspecs import PROJECT
from skycap.plugin import Plugin
from skycap.registry import LoadedPlugin, Registry

_log = structlog.get_logger("skycap.discovery")

_FOLDERS_PACKAGE = "skycap_plugins_dir"


@dataclass(frozen=True, kw_only=True)
class PluginChoice:
    """Which plugins to load, and their tables of settings by name."""

    folder: Path | None = None
    disabled: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def takes(self, name: str) -> bool:
        return name not in self.disabled and (self.only is None or name in self.only)


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    name: str
    origin: str
    version: str
    load: Callable[[], object]


def load(choice: PluginChoice | None = None) -> Registry:
    """Load every chosen plugin.

    One that fails to import is named in the log and left out; the others run. Raises PluginError when it was
    required, and for what no daemon should start with: a kind handled twice, a hook that does not exist, settings
    that do not fit, settings for a plugin that is not there.
    """
    choice = choice or PluginChoice()
    registry = Registry(choice.settings)
    for candidate in _candidates(choice):
        if choice.takes(candidate.name):
            _load_one(candidate, choice, registry)
        else:
            registry.left_out.append(_left_out(candidate, choice))
    _check_names(choice, registry)
    return registry


def _candidates(choice: PluginChoice) -> Iterator[_Candidate]:
    for entry_point in sorted(entry_points(group=PROJECT), key=lambda each: each.name):
        yield _installed(entry_point)
    if choice.folder is not None and choice.folder.is_dir():
        for file in sorted(choice.folder.glob("[!_.]*.py")):
            yield _file(file)


def _installed(entry_point: EntryPoint) -> _Candidate:
    distribution = entry_point.dist
    return _Candidate(
        name=entry_point.name,
        origin=f"{distribution.name}: {entry_point.value}" if distribution else entry_point.value,
        version=distribution.version if distribution else "",
        load=entry_point.load,
    )


def _file(file: Path) -> _Candidate:
    return _Candidate(name=file.stem.replace("_", "-"), origin=str(file), version="", load=lambda: _import_file(file))


class _SourceLoader(SourceFileLoader):
    """Compiles the file each time: bytecode is told apart by seconds, in which an admin may have changed the file."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError(f"no bytecode of {path} is wanted")


def _import_file(file: Path) -> ModuleType:
    name = f"{_FOLDERS_PACKAGE}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file, loader=_SourceLoader(name, str(file)))
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that the handlers' type hints can be resolved
    spec.loader.exec_module(module)
    return module


def _left_out(candidate: _Candidate, choice: PluginChoice) -> LoadedPlugin:
    is_disabled = candidate.name in choice.disabled
    return LoadedPlugin(
        name=candidate.name,
        origin=candidate.origin,
        version=candidate.version,
        error="disabled_plugins names it" if is_disabled else "load_plugins does not name it",
    )


@contextmanager
def imported_anew() -> Generator[None]:
    """Inside this, plugins are imported as they are on disk now. Modules are as before if it raises.

    A plugin is the whole package that it is in; other packages that it uses stay as they are, and so does skycap.
    """
    importlib.invalidate_caches()
    packages = {entry_point.module.partition(".")[0] for entry_point in entry_points(group=PROJECT)}
    packages = (packages | {_FOLDERS_PACKAGE}) - {PROJECT}
    before = _without_modules_of(packages)
    try:
        yield
    except BaseException:
        _without_modules_of(packages)
        sys.modules.update(before)
        raise


def _without_modules_of(packages: set[str]) -> dict[str, ModuleType]:
    names = [name for name in list(sys.modules) if name.partition(".")[0] in packages]
    return {name: sys.modules.pop(name) for name in names}


def _load_one(candidate: _Candidate, choice: PluginChoice, registry: Registry) -> None:
    try:
        loaded = candidate.load()
    except (Exception, SystemExit) as error:
        # Whatever somebody else's module raises, the other plugins are not to suffer from it.
        problem = f"{type(error).__name__}: {error}"
        if candidate.name in choice.required:
            raise PluginError(f"required plugin {candidate.name} ({candidate.origin}) failed: {problem}") from error
        _log.error("plugin left out", plugin=candidate.name, origin=candidate.origin, problem=problem)
        registry.note_broken(candidate.name, origin=candidate.origin, version=candidate.version, error=problem)
        return
    for plugin, name in _plugins_in(loaded, candidate):
        if choice.takes(name):
            registry.add(plugin, name=name, origin=candidate.origin, version=candidate.version)


def _plugins_in(loaded: object, candidate: _Candidate) -> Iterator[tuple[Plugin[Any] | ModuleType, str]]:
    if isinstance(loaded, Plugin):
        yield loaded, loaded.name
    elif isinstance(loaded, ModuleType):
        values: list[Any] = list(vars(loaded).values())
        plugins: list[Plugin[Any]] = [value for value in values if isinstance(value, Plugin)]
        for plugin in plugins:
            yield plugin, plugin.name
        if _has_hooks(loaded):
            # pluggy wants one name for each; the module's must not clash with its plugin's.
            yield loaded, f"{candidate.name}/hooks" if plugins else candidate.name
    else:
        raise PluginError(
            f"plugin {candidate.name} ({candidate.origin}) is a {type(loaded).__name__}: "
            "name a Plugin or a module in its entry point"
        )


def _has_hooks(module: ModuleType) -> bool:
    return any(hasattr(value, f"{PROJECT}_impl") for value in vars(module).values())


def _check_names(choice: PluginChoice, registry: Registry) -> None:
    known = {plugin.name for plugin in registry.plugins} | choice.disabled
    for name in sorted(choice.required - known):
        raise PluginError(f"required_plugins: there is no plugin {name!r}; loaded: {_listed(known)}")
    for name in sorted(set(choice.settings) - known):
        if choice.only is None:
            raise PluginError(f"plugins.{name}: there is no plugin {name!r}; loaded: {_listed(known)}")


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(name for name in names if "/" not in name)) or "none"
