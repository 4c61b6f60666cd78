"""Plugin: what a plugin module exposes; collects job types, schedules, templates, indexes and health checks."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, cast, overload

from pydantic import BaseModel
from typing_extensions import TypeVar

from skycap.backoff import Backoff
from skycap.breaker import BreakerSpec
from skycap.context import Context
from skycap.health import Health, HealthCheck
from skycap.hookspecs import hookimpl
from skycap.index import Index
from skycap.job_type import JobType
from skycap.payload import Payload
from skycap.sample import Sample
from skycap.schedule import CatchUp, Overlap, Schedule
from skycap.unsubscribing import Unsubscribe, Unsubscriber

if TYPE_CHECKING:
    from jinja2 import BaseLoader
    from taskiq import TaskiqMiddleware

S = TypeVar("S", default=None)
P = TypeVar("P", bound=Payload)
Extra = ParamSpec("Extra")

Result = Awaitable[Any] | Mapping[str, Any] | Sequence[Any] | str | float | bool | None
"""What a handler returns: if it is async, an awaitable; otherwise its JSON value itself."""

_NONE = timedelta(0)

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class Plugin(Generic[S]):
    """One plugin: ``plugin = Plugin("welcome", settings=WelcomeSettings)``.

    ``name`` is its name in configuration, logs and metrics. ``settings`` is a pydantic model whose values come
    from ``[plugins.NAME]``; handlers see them as ``ctx.settings``. ``templates`` is a Jinja loader (or several).
    ``middlewares`` are taskiq's, called around the attempts of all plugins' jobs.
    """

    def __init__(
        self,
        name: str,
        *,
        settings: type[S] | None = None,
        templates: BaseLoader | Sequence[BaseLoader] = (),
        middlewares: Iterable[TaskiqMiddleware] = (),
    ) -> None:
        if not _NAME.fullmatch(name):
            raise TypeError(f"plugin name {name!r}: write lower-case words joined by hyphens, like 'price-alerts'")
        if settings is not None and not issubclass(settings, BaseModel):
            raise TypeError(f"plugin {name}: settings={settings!r} is no pydantic BaseModel")
        self.name = name
        self.settings_model: type[S] | None = settings
        self._templates = tuple(templates) if isinstance(templates, Sequence) else (templates,)
        self._middlewares = tuple(_checked(middleware, name) for middleware in middlewares)
        self._jobs: list[JobType] = []
        self._schedules: list[Schedule] = []
        self._health_checks: list[HealthCheck] = []
        self._breakers: list[BreakerSpec] = []
        self._samples: list[Callable[[], Iterable[Sample]]] = []
        self._unsubscriber: Unsubscriber | None = None
        self._indexes: list[Index] = []

    def __repr__(self) -> str:
        return f"Plugin({self.name!r})"

    def job(
        self,
        *,
        retry: Backoff | None = None,
        timeout: timedelta | None = None,
        breakers: Sequence[str] = (),
        tables: Sequence[str] = (),
    ) -> Callable[[Callable[Concatenate[Context[S], P, Extra], Result]], JobType[P]]:
        """Make a ``def`` or ``async def handler(ctx, payload)`` a job type; its kind is the payload's.

        One without ``async`` runs in a thread: it may block, and reaches what is async by ``ctx.run(…)``.
        ``retry`` and ``timeout`` default to the queue's. ``breakers`` names those that every job of the kind needs:
        while one is open, none is started. ``tables`` names those of the backend (as SQL does) without which the kind
        is off: that is said once, its schedules do not tick, and its jobs are cancelled. The result of the handler
        must be a JSON value.
        Raises TypeError for a handler that is no such function or whose payload is no Payload.
        """

        def register(handler: Callable[Concatenate[Context[S], P, Extra], Result]) -> JobType[P]:
            job_type = JobType(
                payload=cast("type[P]", _payload_class(handler)),
                handler=handler,
                plugin=self.name,
                backoff=retry,
                timeout=timeout,
                breakers=tuple(breakers),
                tables=tuple(tables),
            )
            self._jobs.append(job_type)
            return job_type

        return register

    @overload
    def schedule(
        self,
        crontab: str,
        payload: Payload,
        *,
        zone: str = "UTC",
        name: str | None = None,
        jitter: timedelta = _NONE,
        catch_up: CatchUp = "latest",
        overlap: Overlap = "skip",
    ) -> None: ...

    @overload
    def schedule(
        self,
        *,
        payload: Payload,
        every: timedelta,
        name: str | None = None,
        jitter: timedelta = _NONE,
        catch_up: CatchUp = "latest",
        overlap: Overlap = "skip",
    ) -> None: ...

    @overload
    def schedule(
        self,
        *,
        payload: Payload,
        at: datetime,
        zone: str = "UTC",
        name: str | None = None,
        jitter: timedelta = _NONE,
        catch_up: CatchUp = "latest",
    ) -> None: ...

    def schedule(
        self,
        crontab: str | None = None,
        payload: Payload | None = None,
        *,
        every: timedelta | None = None,
        at: datetime | None = None,
        zone: str = "UTC",
        name: str | None = None,
        jitter: timedelta = _NONE,
        catch_up: CatchUp = "latest",
        overlap: Overlap = "skip",
    ) -> None:
        """Enqueue ``payload`` at the times of ``crontab``, or ``every`` so often, or once; ``Schedule`` has the rules.

        Each tick is one job, however many daemons run. ``name`` defaults to the payload's kind; under it, an admin
        may change or switch off the schedule. One that makes no sense stops the start.
        Raises TypeError without a payload.
        """
        if payload is None:
            raise TypeError(f"plugin {self.name}: a schedule without a payload; give payload=…")
        self._schedules.append(
            Schedule(
                name=name or payload.payload_spec.kind,
                crontab=crontab,
                every=every,
                at=at,
                zone=zone,
                payload=payload,
                plugin=self.name,
                jitter=jitter,
                catch_up=catch_up,
                overlap=overlap,
            )
        )

    def breaker(self, spec: BreakerSpec) -> BreakerSpec:
        """Declare a breaker for a partner of this plugin: ``STRIPE = plugin.breaker(BreakerSpec(name="stripe"))``.

        An admin's ``[breakers.NAME]`` wins over its figures. Several plugins may declare the same one alike.
        """
        self._breakers.append(spec)
        return spec

    def index(
        self,
        name: str,
        table: str,
        keys: Sequence[str],
        *,
        purpose: str,
        include: Sequence[str] = (),
        where: str | None = None,
    ) -> None:
        """Say which index of the backend's ``table`` this plugin's queries need; see Index for what is what.

        Nothing is created before an admin asks for it by ``skycap db indexes --apply``. Raises TypeError for what
        cannot be an index.
        """
        self._indexes.append(
            Index(
                name=name,
                table=table,
                keys=tuple(keys) if not isinstance(keys, str) else keys,
                purpose=purpose,
                include=tuple(include),
                where=where,
                plugin=self.name,
            )
        )

    def health_check(self, check: Callable[[], Awaitable[Health]]) -> Callable[[], Awaitable[Health]]:
        """Make an ``async def name() -> Health`` a health check, shown as PLUGIN.name."""
        name = cast("str", getattr(check, "__name__", "check"))
        self._health_checks.append(HealthCheck(name=f"{self.name}.{name}", plugin=self.name, check=check))
        return check

    def samples(self, make: Callable[[], Iterable[Sample]]) -> Callable[[], Iterable[Sample]]:
        """Make a ``def name() -> Iterable[Sample]`` tell what the mails of this plugin can be previewed with.

        It is called only then, and may import what the daemon does not need.
        """
        self._samples.append(make)
        return make

    def unsubscribe(self) -> Callable[[Unsubscribe], Unsubscribe]:
        """Make an ``async def stop(ctx, who)`` what happens when a guest unsubscribes from a mail of this plugin.

        ``who`` is what the handler gave as ``ctx.mailer.send(…, unsubscribe={…})``. It may be called more than once,
        and must not fail for what has been stopped, or deleted, before. Raises TypeError for a second one.
        """

        def register(stop: Unsubscribe) -> Unsubscribe:
            if self._unsubscriber is not None:
                raise TypeError(f"plugin {self.name} has an unsubscribe function already; tell cases apart by ``who``")
            self._unsubscriber = Unsubscriber(plugin=self.name, stop=stop)
            return stop

        return register

    @hookimpl
    def register_samples(self) -> Iterable[Sample]:
        return tuple(sample for make in self._samples for sample in make())

    @hookimpl
    def register_unsubscribers(self) -> Iterable[Unsubscriber]:
        return () if self._unsubscriber is None else (self._unsubscriber,)

    @hookimpl
    def register_breakers(self) -> Iterable[BreakerSpec]:
        return tuple(self._breakers)

    @hookimpl
    def register_indexes(self) -> Iterable[Index]:
        return tuple(self._indexes)

    @hookimpl
    def register_jobs(self) -> Iterable[JobType]:
        return tuple(self._jobs)

    @hookimpl
    def register_schedules(self) -> Iterable[Schedule]:
        return tuple(self._schedules)

    @hookimpl
    def register_template_loaders(self) -> Iterable[BaseLoader]:
        return self._templates

    @hookimpl
    def register_middlewares(self) -> Iterable[TaskiqMiddleware]:
        return self._middlewares

    @hookimpl
    def register_health_checks(self) -> Iterable[HealthCheck]:
        return tuple(self._health_checks)


def _payload_class(handler: Callable[..., Any]) -> type[Payload]:
    name = getattr(handler, "__qualname__", type(handler).__name__)
    if problem := _unlike_a_handler(handler):
        raise TypeError(f"{name} is {problem}")
    parameters = list(inspect.signature(handler).parameters)
    if len(parameters) < 2:  # noqa: PLR2004 - ctx and payload
        raise TypeError(f"{name} takes {len(parameters)} parameters: write `def {name}(ctx, payload)`")
    try:
        annotation = typing.get_type_hints(handler).get(parameters[1])
    except NameError as error:
        raise TypeError(f"{name}: {error}; define what its annotations name at the top level of the module") from error
    if not (isinstance(annotation, type) and issubclass(annotation, Payload)):
        raise TypeError(f"{name}: annotate {parameters[1]!r} with its Payload class, not {annotation!r}")
    return annotation


def _unlike_a_handler(handler: Callable[..., Any]) -> str | None:
    if not inspect.isroutine(handler):
        return "no function: write `def handler(ctx, payload)`, and call it from there"
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        return "a generator, which nobody would iterate: return a value instead of `yield`"
    if inspect.iscoroutinefunction(inspect.unwrap(handler)) and not inspect.iscoroutinefunction(handler):
        return "async within a decorator that is not: write the decorator's wrapper as `async def`, too"
    return None


def _checked(middleware: TaskiqMiddleware, plugin: str) -> TaskiqMiddleware:
    # By its methods, not its class: `import skycap` must not load taskiq.
    candidate: object = middleware
    if isinstance(candidate, type):
        raise TypeError(f"plugin {plugin}: middleware {candidate.__name__} is a class: write {candidate.__name__}()")
    if not all(callable(getattr(candidate, method, None)) for method in ("pre_execute", "post_execute")):
        raise TypeError(
            f"plugin {plugin}: middleware {type(candidate).__name__} has no pre_execute and post_execute: "
            "derive it from taskiq.TaskiqMiddleware"
        )
    return middleware
