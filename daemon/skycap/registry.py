"""Registry: the loaded plugins, the kinds they handle, and the hooks they listen to."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pluggy
import structlog
from pydantic import BaseModel, ValidationError

from skycap.errors import InvalidPayload, NewerPayload, PluginError, Undecodable, UnknownKind
from skycap.hookspecs import PROJECT, HookSpecs
from skycap.job_type import JobType
from skycap.payload import LARGEST_BYTES, Payload, PayloadSpec
from skycap.problems import problems_of

if TYPE_CHECKING:
    from jinja2 import BaseLoader
    from taskiq import TaskiqMiddleware

    from skycap.breaker import BreakerSpec
    from skycap.envelope import Envelope
    from skycap.health import HealthCheck
    from skycap.index import Index
    from skycap.sample import Sample
    from skycap.schedule import Schedule
    from skycap.unsubscribing import Unsubscriber

_log = structlog.get_logger("skycap.registry")


@dataclass(frozen=True, kw_only=True)
class LoadedPlugin:
    """One plugin as an admin sees it; ``error`` says why it does not run."""

    name: str
    origin: str
    version: str = ""
    kinds: tuple[str, ...] = ()
    error: str | None = None


class Registry:
    """Knows which plugin handles which kind. ``skycap.discovery.load`` fills it from the installation."""

    def __init__(self, settings: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._settings = settings or {}
        self._pluggy = pluggy.PluginManager(PROJECT)
        self._pluggy.add_hookspecs(HookSpecs)
        self._job_types: dict[str, JobType] = {}
        self._schedules: dict[str, Schedule] = {}
        self._breakers: dict[str, tuple[str, BreakerSpec]] = {}
        self._settings_of: dict[str, BaseModel | None] = {}
        self.plugins: list[LoadedPlugin] = []
        self.left_out: list[LoadedPlugin] = []
        """Those that are installed and were not chosen; their ``error`` says by which setting."""

    def add(self, plugin: object, *, name: str, origin: str, version: str = "") -> None:
        """Register a Plugin, or a module or object with hook implementations, under ``name``.

        Raises PluginError for a hook that does not exist, a kind that is taken, or settings that do not fit.
        """
        try:
            self._pluggy.register(plugin, name)
            self._pluggy.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"plugin {name} ({origin}): {error}") from error
        settings = self._settings_of[name] = self._validated_settings(plugin, name)
        kinds = [self._add_job_type(replace(job_type, settings=settings)) for job_type in self._jobs_of(name)]
        for plugin_name, found in self._collect("register_schedules"):
            if plugin_name == name:
                self._add_schedules(found)
        for plugin_name, declared in self._collect("register_breakers"):
            if plugin_name == name:
                self._add_breakers(name, declared)
        self.plugins.append(LoadedPlugin(name=name, origin=origin, version=version, kinds=tuple(kinds)))

    def note_broken(self, name: str, *, origin: str, version: str, error: str) -> None:
        """Remember a plugin that could not be loaded, so that the admin sees it beside the others."""
        self.plugins.append(LoadedPlugin(name=name, origin=origin, version=version, error=error))

    @property
    def job_types(self) -> tuple[JobType, ...]:
        """Every job type once, whatever aliases it has."""
        return tuple({job_type.kind: job_type for job_type in self._job_types.values()}.values())

    @property
    def largest_job_bytes(self) -> int:
        """The most that any kind allows a job, and no less than what those allow that say nothing."""
        of_kinds = (job_type.payload.payload_spec.largest_bytes for job_type in self.job_types)
        return max((LARGEST_BYTES, *of_kinds))

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        return tuple(self._schedules.values())

    @property
    def breakers(self) -> dict[str, BreakerSpec]:
        """Those that plugins declare, by name."""
        return {name: spec for name, (_, spec) in self._breakers.items()}

    def find(self, kind: str) -> JobType | None:
        return self._job_types.get(kind)

    def checked_payload(self, kind: str, fields: Mapping[str, Any]) -> Payload:
        """The payload to enqueue. Raises UnknownKind, or InvalidPayload with every problem, unknown fields included."""
        job_type = self.find(kind)
        if job_type is None:
            raise UnknownKind(f"no plugin handles {kind!r}{_suggestion(kind, self._job_types)}")
        problems = list(_unknown_fields(job_type.payload, fields))
        try:
            payload = job_type.payload.model_validate(dict(fields))
        except ValidationError as error:
            problems = [*problems_of(error), *problems]
        else:
            if not problems:
                return payload
        raise InvalidPayload(kind, problems)

    def accepted_payload(self, kind: str, fields: Mapping[str, Any], *, version: int | None = None) -> Payload:
        """As ``checked_payload``, for fields of an older ``version`` too. Raises NewerPayload for a version to come."""
        job_type = self.find(kind)
        if job_type is None or version is None:
            return self.checked_payload(kind, fields)
        spec = job_type.payload.payload_spec
        if version > spec.version:
            raise NewerPayload(
                f"{kind}: the payload has version {version}, these plugins know up to {spec.version}; "
                "bring the daemon up to date first, or send the older version"
            )
        if version == spec.version:
            return self.checked_payload(kind, fields)
        try:
            upgraded = _upgraded(fields, version, spec)
        except Exception as error:
            # The author's function may raise anything about fields that were never checked.
            problem = f"does not fit version {version} of this kind ({type(error).__name__})"
            raise InvalidPayload(kind, [f"payload: {problem}"]) from error
        return self.checked_payload(kind, upgraded)

    def read(self, envelope: Envelope) -> tuple[JobType, Payload]:
        """The job type and payload of a job to run.

        Raises UnknownKind also for a payload newer than this worker knows, and Undecodable for one that does not fit.
        """
        job_type = self.find(envelope.kind)
        if job_type is None:
            raise UnknownKind(f"no plugin of this worker handles {envelope.kind!r}")
        spec = job_type.payload.payload_spec
        if envelope.version > spec.version:
            raise UnknownKind(f"{envelope.kind} version {envelope.version}: this worker knows up to {spec.version}")
        fields = _upgraded(envelope.payload, envelope.version, spec)
        try:
            return job_type, job_type.payload.model_validate(fields)
        except ValidationError as error:
            raise Undecodable(f"payload of {envelope.kind}: {'; '.join(problems_of(error))}") from error

    def template_loaders(self) -> list[BaseLoader]:
        """Each once. Those of plugins that were loaded later come first, so that they can override a template."""
        loaders = [loader for _, found in self._collect("register_template_loaders") for loader in found]
        return list(dict.fromkeys(loaders[::-1]))

    def middlewares(self) -> list[TaskiqMiddleware]:
        return [middleware for _, found in self._collect("register_middlewares") for middleware in found]

    def health_checks(self) -> list[HealthCheck]:
        return [check for _, found in self._collect("register_health_checks") for check in found]

    def indexes(self) -> list[Index]:
        """Those of all plugins. Raises PluginError when two have one name."""
        found: dict[str, Index] = {}
        for plugin, indexes in self._collect("register_indexes"):
            for index in indexes:
                if index.name in found:
                    raise PluginError(
                        f"two indexes are called {index.name!r}: of {found[index.name].plugin} and of {plugin}; "
                        "give one of them another name"
                    )
                found[index.name] = replace(index, plugin=plugin)
        return list(found.values())

    def samples(self) -> list[Sample]:
        """Those of all plugins, in the order in which they were loaded."""
        return [sample for _, found in self._collect("register_samples") for sample in found]

    def unsubscribers(self) -> dict[str, Unsubscriber]:
        """By plugin, each with its plugin's settings."""
        return {
            name: replace(unsubscriber, settings=self._settings_of[name])
            for name, found in self._collect("register_unsubscribers")
            for unsubscriber in found
        }

    def has_hook(self, hook: str) -> bool:
        """Whether any plugin listens; who notifies often asks once, when all plugins are loaded."""
        return any(True for _ in self._implementations(hook))

    async def notify(self, hook: str, **arguments: object) -> None:
        """Call a hook's implementations one by one; what one raises is logged with its plugin and stops nothing."""
        for implementation in self._implementations(hook):
            try:
                answer = implementation.function(*[arguments[name] for name in implementation.argnames])
                if inspect.isawaitable(answer):
                    await answer
            except Exception:  # noqa: BLE001 - the one place where a plugin's hooks are kept from harming others
                _log.exception("hook failed", hook=hook, plugin=implementation.plugin_name)

    def _jobs_of(self, name: str) -> list[JobType]:
        return [job_type for plugin, found in self._collect("register_jobs") if plugin == name for job_type in found]

    def _add_job_type(self, job_type: JobType) -> str:
        spec = job_type.payload.payload_spec
        for kind in (spec.kind, *spec.aliases):
            taken = self._job_types.get(kind)
            if taken is not None:
                raise PluginError(
                    f"two plugins handle {kind!r}: {taken.plugin} and {job_type.plugin}; "
                    "name one of them in disabled_plugins"
                )
            self._job_types[kind] = job_type
        return spec.kind

    def _add_schedules(self, schedules: Iterable[Schedule]) -> None:
        for schedule in schedules:
            taken = self._schedules.get(schedule.name)
            if taken is not None:
                raise PluginError(
                    f"two schedules are called {schedule.name!r}: of {taken.plugin} and of {schedule.plugin}; "
                    "give one of them another name"
                )
            self._schedules[schedule.name] = schedule

    def _add_breakers(self, plugin: str, specs: Iterable[BreakerSpec]) -> None:
        for spec in specs:
            other, known = self._breakers.setdefault(spec.name, (plugin, spec))
            if known != spec:
                raise PluginError(
                    f"two plugins declare the breaker {spec.name!r} with other figures each: {other} and {plugin}; "
                    "give one of them another name, or both the same figures"
                )

    def _validated_settings(self, plugin: object, name: str) -> BaseModel | None:
        configured = self._settings.get(name, {})
        model: Any = getattr(plugin, "settings_model", None)
        if model is None:
            if configured:
                raise PluginError(f"plugins.{name}: this plugin has no settings; remove the table")
            return None
        try:
            return cast("type[BaseModel]", model).model_validate(dict(configured))
        except ValidationError as error:
            raise PluginError(f"plugins.{name}: {'; '.join(problems_of(error))}") from error

    def _collect(self, hook: str) -> Iterator[tuple[str, Iterable[Any]]]:
        # In order of registration, which pluggy calls last.
        for implementation in reversed(list(self._implementations(hook))):
            yield implementation.plugin_name, cast("Iterable[Any]", implementation.function())

    def _implementations(self, hook: str) -> Iterable[pluggy.HookImpl]:
        caller = cast("pluggy.HookCaller", getattr(self._pluggy.hook, hook))
        return reversed(caller.get_hookimpls())


def _upgraded(payload: Mapping[str, Any], version: int, spec: PayloadSpec) -> dict[str, Any]:
    fields = dict(payload)
    for each in range(version, spec.version):
        fields = spec.upgrades[each](fields)
    return fields


def _unknown_fields(payload: type[Payload], fields: Mapping[str, Any]) -> Iterator[str]:
    names = payload.wire_names()
    on_the_wire = names.values()
    for field in fields:
        if field not in on_the_wire and field not in names:
            yield f"{field}: no field of {payload.payload_spec.kind}{_suggestion(field, on_the_wire)}"


def _suggestion(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(names)}" if names else "; no plugin is loaded"
