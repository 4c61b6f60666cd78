"""Plugins: how they are found, what is refused at start, and that one's failure is its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from jinja2 import BaseLoader, DictLoader
from pydantic import BaseModel
from structlog.testing import capture_logs
from taskiq import SmartRetryMiddleware, TaskiqMiddleware

from skycap import (
    BreakerChange,
    BreakerSpec,
    BreakerState,
    Context,
    Health,
    InvalidPayload,
    JobType,
    Payload,
    Plugin,
    PluginError,
    Sample,
    UnknownKind,
    UnsubscribeContext,
    hookimpl,
    ok,
)
from skycap.context import RunningJob
from skycap.discovery import PluginChoice, load
from skycap.envelope import Envelope
from skycap.errors import Undecodable
from skycap.health import HealthCheck
from skycap.index import Index
from skycap.outcome import Completed, Outcome
from skycap.registry import Registry
from skycap.schedule import Schedule
from skycap.unsubscribing import Unsubscriber

SHIPPED = frozenset(
    {
        *("accounts", "bookings", "mails", "partners", "payments", "price-alerts"),
        *("price-history", "price-retention", "price-sweep"),
        *("housekeeping", "processing", "recommendations", "reports", "upkeep"),
    }
)
NOW = datetime(2026, 11, 23, tzinfo=UTC)
JOB = RunningJob(id="1", kind="say-hello", queue="default", attempt=1, max_attempts=3, enqueued_at=NOW)


def split_name(fields: dict[str, Any]) -> dict[str, Any]:
    first, _, last = fields["name"].partition(" ")
    return {"firstName": first, "lastName": last}


class Hello(Payload, kind="say-hello", version=2, upgrades={1: split_name}, aliases=("say-hi",)):
    first_name: str
    last_name: str = ""


class HelloSettings(BaseModel):
    greeting: str = "Hello"


class AlsoHello(Payload, kind="say-hi"):
    pass


plugin = Plugin("hello", settings=HelloSettings, templates=DictLoader({"hello.txt.j2": "Hi"}))


@plugin.job()
async def say_hello(ctx: Context[HelloSettings], payload: Hello) -> str:
    return f"{ctx.settings.greeting}, {payload.first_name}"


@plugin.samples
def samples() -> Iterable[Sample]:
    return [Sample(name="ada", payload=Hello(first_name="Ada"))]


@plugin.unsubscribe()
async def stop_greeting(ctx: UnsubscribeContext[Any], who: Mapping[str, str]) -> None:
    del ctx, who


@plugin.health_check
async def voice() -> Health:
    return ok()


@pytest.fixture
def registry() -> Registry:
    registry = Registry({"hello": {"greeting": "Merhaba"}})
    registry.add(plugin, name="hello", origin="this test")
    return registry


def envelope(payload: dict[str, Any], *, version: int = 2, kind: str = "say-hello") -> Envelope:
    return Envelope(id="1", kind=kind, payload=payload, queue="default", priority=1, enqueued_at=NOW, version=version)


def test_a_kind_is_found_by_its_name_and_its_aliases(registry: Registry) -> None:
    found = registry.find("say-hello")
    assert found is not None
    assert found is registry.find("say-hi")
    assert [job_type.kind for job_type in registry.job_types] == ["say-hello"]
    assert found.settings == HelloSettings(greeting="Merhaba")


def test_an_older_payload_is_upgraded_step_by_step(registry: Registry) -> None:
    _, payload = registry.read(envelope({"name": "Ada Lovelace"}, version=1))
    assert payload == Hello(first_name="Ada", last_name="Lovelace")


def test_a_newer_payload_is_left_to_a_newer_worker(registry: Registry) -> None:
    with pytest.raises(UnknownKind, match="say-hello version 3: this worker knows up to 2"):
        registry.read(envelope({}, version=3))


def test_an_unknown_field_is_ignored_when_a_job_runs(registry: Registry) -> None:
    _, payload = registry.read(envelope({"firstName": "Ada", "addedLater": 1}))
    assert payload == Hello(first_name="Ada")


def test_a_stored_payload_that_does_not_fit_is_undecodable(registry: Registry) -> None:
    with pytest.raises(Undecodable, match="payload of say-hello: firstName: is missing; give a value"):
        registry.read(envelope({}))


def test_enqueueing_names_every_wrong_field_and_a_misspelt_one(registry: Registry) -> None:
    with pytest.raises(InvalidPayload) as caught:
        registry.checked_payload("say-hello", {"firstNam": "Ada", "lastName": 7})
    assert caught.value.problems == [
        "firstName: is missing; give a value",
        "lastName: input should be a valid string",
        "firstNam: no field of say-hello; did you mean 'firstName'?",
    ]


def test_enqueueing_an_unknown_kind_suggests_the_nearest(registry: Registry) -> None:
    with pytest.raises(UnknownKind, match="no plugin handles 'say-helo'; did you mean 'say-hello'"):
        registry.checked_payload("say-helo", {})


def test_two_plugins_with_one_kind_are_refused(registry: Registry) -> None:
    other = Plugin[None]("other")

    @other.job()
    async def also(ctx: Context, payload: AlsoHello) -> None: ...

    with pytest.raises(PluginError, match="two plugins handle 'say-hi': hello and other; name one of them in disabled"):
        registry.add(other, name="other", origin="this test")


def test_a_misspelt_hook_is_refused(registry: Registry) -> None:
    class Odd:
        @hookimpl
        def job_finishd(self) -> None: ...

    with pytest.raises(PluginError, match=r"plugin odd \(this test\): .*job_finishd"):
        registry.add(Odd(), name="odd", origin="this test")


def test_settings_that_do_not_fit_name_the_plugin_and_the_key() -> None:
    with pytest.raises(PluginError, match=r"plugins.hello: greeting: input should be a valid string"):
        Registry({"hello": {"greeting": 1}}).add(plugin, name="hello", origin="this test")


HIDDEN_BY_ITS_DECORATOR = """
import functools
def noisy(f): return functools.wraps(f)(lambda *given: f(*given))
@noisy
async def handle(ctx, payload: Hello): ...
"""


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("def handle(ctx, payload: Hello): yield", "handle is a generator, which nobody would iterate: return a value"),
        ("async def handle(ctx, payload: Hello): yield", "handle is a generator, which nobody would iterate"),
        ("from functools import partial\nhandle = partial(print)", "partial is no function: write `def handle"),
        (HIDDEN_BY_ITS_DECORATOR, "handle is async within a decorator that is not"),
        ("def handle(payload: Hello): ...", r"handle takes 1 parameters: write `def handle\(ctx, payload\)`"),
        ("async def handle(ctx): ...", "handle takes 1 parameters"),
        ("async def handle(ctx, payload): ...", "annotate 'payload' with its Payload class"),
        ("async def handle(ctx, payload: int): ...", "annotate 'payload' with its Payload class"),
        (
            "async def handle(ctx, payload: 'Nowhere'): ...",
            "name 'Nowhere' is not defined; define what its annotations",
        ),
    ],
)
def test_a_handler_of_the_wrong_shape_is_refused_where_it_is_written(handler: str, message: str) -> None:
    scope: dict[str, Any] = {"Hello": Hello}
    exec(handler, scope)  # noqa: S102 - the type checkers would refuse these
    with pytest.raises(TypeError, match=message):
        Plugin("odd").job()(scope["handle"])


class Observer:
    """Implements every hook, and notes what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @hookimpl
    def register_jobs(self) -> Iterable[JobType]:
        return ()

    @hookimpl
    def register_schedules(self) -> Iterable[Schedule]:
        return [
            Schedule(name="wave", crontab="0 * * * *", zone="UTC", payload=Hello(first_name="Ada"), plugin="observer")
        ]

    @hookimpl
    def register_template_loaders(self) -> Iterable[BaseLoader]:
        return [DictLoader({"hello.txt.j2": "Hi from the observer"})]

    @hookimpl
    def register_middlewares(self) -> Iterable[TaskiqMiddleware]:
        return [SmartRetryMiddleware()]

    @hookimpl
    def register_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck(name="observer.eyes", plugin="observer", check=voice)]

    @hookimpl
    def register_breakers(self) -> Iterable[BreakerSpec]:
        return [BreakerSpec(name="observatory", opens_after=1)]

    @hookimpl
    def register_samples(self) -> Iterable[Sample]:
        return [Sample(name="wave", payload=Hello(first_name="Ada"))]

    @hookimpl
    def register_indexes(self) -> Iterable[Index]:
        return [Index(name="skycap_waves", table="waves", keys=["createdAt DESC"], purpose="the newest waves")]

    @hookimpl
    def register_unsubscribers(self) -> Iterable[Unsubscriber]:
        return [Unsubscriber(plugin="observer", stop=stop_greeting)]

    @hookimpl
    async def daemon_started(self, worker_id: str) -> None:
        self.told.append(f"started {worker_id}")

    @hookimpl
    def job_started(self, job: RunningJob) -> None:
        self.told.append(f"began {job.id}")

    @hookimpl
    def job_finished(self, outcome: Outcome, duration: timedelta) -> None:
        self.told.append(f"{type(outcome).__name__} in {duration}")

    @hookimpl
    def breaker_changed(self, change: BreakerChange) -> None:
        self.told.append(f"{change.breaker} is {change.state}")

    @hookimpl
    def before_send(self, message: EmailMessage) -> None:
        message["X-Observed"] = "yes"

    @hookimpl
    def daemon_stopping(self) -> None:
        raise RuntimeError("the observer fell asleep")


async def tell_everything(registry: Registry) -> EmailMessage:
    mail = EmailMessage()
    await registry.notify("daemon_started", worker_id="w")
    await registry.notify("job_started", job=JOB)
    await registry.notify("job_finished", job=JOB, outcome=Completed(), duration=timedelta(seconds=1))
    change = BreakerChange(breaker="stripe", state=BreakerState.OPEN, tries_again_in=timedelta(seconds=20))
    await registry.notify("breaker_changed", change=change)
    await registry.notify("before_send", message=mail)
    await registry.notify("daemon_stopping", worker_id="w")
    return mail


async def test_every_hook_is_called_with_what_it_asks_for(registry: Registry) -> None:
    observer = Observer()
    registry.add(observer, name="observer", origin="this test")
    mail = await tell_everything(registry)
    assert observer.told == ["started w", "began 1", "Completed in 0:00:01", "stripe is open"]
    assert mail["X-Observed"] == "yes"
    assert [check.name for check in registry.health_checks()] == ["hello.voice", "observer.eyes"]
    assert [index.name for index in registry.indexes()] == ["skycap_waves"]
    assert [sample.kind for sample in registry.samples()] == ["say-hello", "say-hello"]
    assert registry.breakers == {"observatory": BreakerSpec(name="observatory", opens_after=1)}
    stopped = registry.unsubscribers()
    assert (stopped["hello"].settings, stopped["observer"].settings) == (HelloSettings(greeting="Merhaba"), None)


def test_two_plugins_may_declare_one_breaker_alike_and_not_otherwise(registry: Registry) -> None:
    for name in ("flights", "hotels"):
        partner = Plugin(name)
        partner.breaker(BreakerSpec(name="partner"))
        registry.add(partner, name=name, origin="this test")
    assert list(registry.breakers) == ["partner"]
    cars = Plugin("cars")
    cars.breaker(BreakerSpec(name="partner", opens_after=9))
    with pytest.raises(PluginError, match="two plugins declare the breaker 'partner' with other figures each"):
        registry.add(cars, name="cars", origin="this test")


@pytest.mark.parametrize(
    ("figures", "problem"),
    [
        ({"name": "Booking.com"}, "breaker 'Booking.com': write lower-case words"),
        ({"name": "x", "opens_after": 0}, "are at least 1"),
        ({"name": "x", "tries_again_after": timedelta(0)}, "are longer than nothing"),
    ],
)
def test_a_breaker_that_cannot_be_is_refused_where_it_is_declared(figures: dict[str, Any], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        BreakerSpec(**figures)


def test_a_plugin_has_one_answer_to_a_guest_who_unsubscribes() -> None:
    with pytest.raises(TypeError, match="plugin hello has an unsubscribe function already"):
        plugin.unsubscribe()(stop_greeting)


async def test_a_failing_hook_is_logged_with_its_plugin_and_stops_no_other(registry: Registry) -> None:
    class Failing:
        @hookimpl
        def job_started(self) -> None:
            raise SystemError("this plugin is broken")

    observer = Observer()
    registry.add(observer, name="observer", origin="this test")
    registry.add(Failing(), name="failing", origin="this test")
    with capture_logs() as logged:
        await tell_everything(registry)
    assert "began 1" in observer.told
    assert [(line["event"], line["hook"], line["plugin"]) for line in logged] == [
        ("hook failed", "job_started", "failing"),
        ("hook failed", "daemon_stopping", "observer"),
    ]


def test_schedules_of_plugins_and_hooks_are_found_and_their_names_are_unique(registry: Registry) -> None:
    clock = Plugin("clock")
    clock.schedule("0 */6 * * *", Hello(first_name="Ada"))
    registry.add(clock, name="clock", origin="this test")
    registry.add(Observer(), name="observer", origin="this test")
    assert [(each.name, each.plugin) for each in registry.schedules] == [("say-hello", "clock"), ("wave", "observer")]
    other = Plugin("other")
    other.schedule("0 0 * * *", Hello(first_name="Ada"))
    with pytest.raises(PluginError, match="two schedules are called 'say-hello': of clock and of other"):
        registry.add(other, name="other", origin="this test")


def test_two_indexes_of_one_name_are_refused(registry: Registry) -> None:
    registry.add(Observer(), name="observer", origin="this test")
    other = Plugin("other")
    other.index("skycap_waves", "hands", ["id"], purpose="the same name for something else")
    registry.add(other, name="other", origin="this test")
    with pytest.raises(PluginError, match="two indexes are called 'skycap_waves': of observer and of other; give one"):
        registry.indexes()


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("bookings_of_user", ["userId"], "write skycap_ and lower-case words joined by underscores"),
        ("skycap_bookings_of_User", ["userId"], "index name 'skycap_bookings_of_User'"),
        ("skycap_bookings", [], "give its keys as a list"),
        ("skycap_bookings", "userId", "give its keys as a list"),
        ("skycap_bookings", ["userId DOWN"], r"key 'userId DOWN' is no column or \(expression\)"),
        ("skycap_bookings", ["lower(email)"], r"key 'lower\(email\)' is no column or \(expression\)"),
    ],
)
def test_what_is_no_index_is_refused_where_it_is_written(name: str, keys: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Plugin("odd").index(name, "bookings", keys, purpose="a test")


def test_a_later_plugins_templates_come_first(registry: Registry) -> None:
    registry.add(Observer(), name="observer", origin="this test")
    first = registry.template_loaders()[0]
    assert isinstance(first, DictLoader)
    assert first.mapping["hello.txt.j2"] == "Hi from the observer"


class Audit(TaskiqMiddleware):
    pass


def test_middlewares_of_plugins_and_hooks_are_found_in_order_of_registration(registry: Registry) -> None:
    audit = Audit()
    registry.add(Plugin("audit", middlewares=[audit]), name="audit", origin="this test")
    registry.add(Observer(), name="observer", origin="this test")
    first, second = registry.middlewares()
    assert first is audit
    assert isinstance(second, SmartRetryMiddleware)


@pytest.mark.parametrize(
    ("middleware", "message"),
    [
        (Audit, r"plugin audit: middleware Audit is a class: write Audit\(\)"),
        (object(), "plugin audit: middleware object has no pre_execute and post_execute: derive it from taskiq.Taskiq"),
    ],
)
def test_what_is_no_middleware_is_refused_where_it_is_written(middleware: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Plugin("audit", middlewares=[middleware])


WORKING = """
from skycap import Context, Payload, Plugin, hookimpl
plugin = Plugin("wave")
class Wave(Payload, kind="wave-hand"):
    pass
@plugin.job()
async def wave(ctx: Context, payload: Wave) -> None: ...
@hookimpl
def job_started(job): ...
"""


def choice(folder: Path, **options: Any) -> PluginChoice:
    return PluginChoice(folder=folder, disabled=SHIPPED, **options)


def test_a_folder_of_modules_is_loaded_in_order_of_their_names(plugins_folder: Path) -> None:
    (plugins_folder / "b_wave.py").write_text(WORKING)
    (plugins_folder / "a_nod.py").write_text(WORKING.replace("wave", "nod").replace("Wave", "Nod"))
    (plugins_folder / "_ignored.py").write_text("raise SystemExit")
    registry = load(choice(plugins_folder))
    assert [(each.name, each.kinds) for each in registry.plugins] == [
        ("nod", ("nod-hand",)),
        ("a-nod/hooks", ()),
        ("wave", ("wave-hand",)),
        ("b-wave/hooks", ()),
    ]


@pytest.mark.parametrize("broken", ["import nowhere_to_be_found", "def f(:", "raise SystemExit(1)"])
def test_a_plugin_that_fails_to_import_is_named_and_the_others_run(plugins_folder: Path, broken: str) -> None:
    (plugins_folder / "broken.py").write_text(broken)
    (plugins_folder / "wave.py").write_text(WORKING)
    with capture_logs() as logged:
        registry = load(choice(plugins_folder))
    assert registry.find("wave-hand") is not None
    (named,) = [each for each in registry.plugins if each.error]
    assert named.name == "broken"
    assert named.origin == str(plugins_folder / "broken.py")
    assert [(line["event"], line["plugin"]) for line in logged] == [("plugin left out", "broken")]


def test_a_required_plugin_that_fails_stops_the_start(plugins_folder: Path) -> None:
    (plugins_folder / "broken.py").write_text("import nowhere_to_be_found")
    with pytest.raises(
        PluginError, match=r"required plugin broken \(.*broken.py\) failed: ModuleNotFoundError: No modu"
    ):
        load(choice(plugins_folder, required=frozenset({"broken"})))


def test_a_required_plugin_that_is_not_there_stops_the_start(plugins_folder: Path) -> None:
    with pytest.raises(PluginError, match="required_plugins: there is no plugin 'wave'; loaded: accounts, bookings"):
        load(choice(plugins_folder, required=frozenset({"wave"})))


def test_settings_for_a_plugin_that_is_not_there_stop_the_start(plugins_folder: Path) -> None:
    with pytest.raises(PluginError, match=r"plugins\.wawe: there is no plugin 'wawe'"):
        load(choice(plugins_folder, settings={"wawe": {"x": 1}}))


def test_a_disabled_plugin_is_not_even_imported(plugins_folder: Path) -> None:
    (plugins_folder / "broken.py").write_text("raise SystemExit")
    registry = load(PluginChoice(folder=plugins_folder, disabled=SHIPPED | {"broken"}))
    assert registry.plugins == []
