"""kill -9 at every await between a mail's claim and its settlement: none is lost, and where one may come twice."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from email import policy
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, Literal

import asyncpg
import pytest

from skycap import AsyncClient, Payload
from skycap.demo.mailbox import Mailbox
from skycap.job import Job, JobState
from skycap.services.migrations import migrate
from tests.support.daemons import Site
from tests.support.mail_crash import Kill, Moment, Nursery, Victim
from tests.support.workers import PATIENCE, eventually

OnUnknown = Literal["resend", "hold"]

HEADER = "Resend-Idempotency-Key"
LANES = 13
"""So many daemons at a time, each with a Redis database of its own: they wait for leases most of the time."""

PLUGIN = """
from typing import Literal

from jinja2 import DictLoader

from skycap import Context, Payload, Plugin

TEMPLATES = {
    "crash/subject.txt.j2": "Hello {{ name }}",
    "crash/body.txt.j2": "Hello {{ name }}",
    "crash/body.html.j2": "<html><head></head><body><p>Hello {{ name }}</p></body></html>",
}
plugin = Plugin("crash", templates=DictLoader(TEMPLATES))


class CrashMail(Payload, kind="crash-mail"):
    to: str
    meaning: str
    on_unknown: Literal["resend", "hold"]


@plugin.job()
async def crash_mail(ctx: Context, payload: CrashMail) -> str:
    name = await ctx.db.fetchval("SELECT 'Ada'")
    return await ctx.mailer.send(payload.to, "crash", key=payload.meaning, on_unknown=payload.on_unknown, name=name)
"""


class CrashMail(Payload, kind="crash-mail"):
    """One mail to ``to``, which means ``meaning``."""

    to: str
    meaning: str
    on_unknown: OnUnknown


class MemorisingMailbox(Mailbox):
    """A provider that takes a second mail with the same idempotency key, and drops it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._keys: set[str] = set()

    async def keep(self, content: bytes, sender: str, recipients: Sequence[str]) -> int:
        key = BytesHeaderParser(policy=policy.default).parsebytes(content)[HEADER]
        assert key, "a mail came without its key"
        if key in self._keys:
            return 0
        self._keys.add(key)
        return await super().keep(content, sender, recipients)


@dataclass(frozen=True, kw_only=True)
class Crash:
    """One kill, and what became of the mail."""

    moment: Moment
    state_found: str
    copies_found: int
    state: str
    copies: int
    job: Job

    @property
    def is_ambiguous(self) -> bool:
        return self.state_found == "dot"

    @property
    def is_held(self) -> bool:
        return self.state == "unknown"

    @property
    def lost(self) -> int:
        """A mail that nobody got, and nobody is told of."""
        return int(self.copies == 0 and not self.is_held)

    @property
    def duplicated(self) -> int:
        return max(0, self.copies - 1)


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A daemon's own Redis database; the PostgreSQL and the mail server are everybody's."""

    client: AsyncClient
    config: Path


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The servers, which outlive the daemons."""

    nursery: Nursery
    mailbox: Mailbox
    database: asyncpg.Pool[Any]
    lanes: asyncio.Queue[Lane]

    def copies_for(self, recipient: str) -> list[str]:
        """The Message-IDs of what came."""
        return [mail.message_id for mail in self.mailbox.received if mail.recipient == recipient]

    async def ledger_state(self, meaning: str) -> str:
        state = await self.database.fetchval("SELECT state FROM skycap.mail_ledger WHERE key = $1", meaning)
        return str(state or "-")

    @asynccontextmanager
    async def lane(self) -> AsyncGenerator[Lane]:
        lane = await self.lanes.get()
        try:
            yield lane
        finally:
            self.lanes.put_nowait(lane)

    async def moments(self, on_unknown: OnUnknown) -> list[Moment]:
        """All that a mail passes when nobody is killed."""
        meaning = f"dry-{on_unknown}"
        async with self.lane() as lane:
            job_id = await _enqueue(lane, meaning, on_unknown)
            daemon = await self.nursery.daemon(lane.config)
            await _finished(lane, job_id)
            await _until_it_rests(daemon)
            await daemon.kill()
        assert len(self.copies_for(_recipient(meaning))) == 1
        return daemon.moments()

    async def crash_at(self, kill: Kill, on_unknown: OnUnknown) -> Crash | None:
        """Kill a daemon at the moment, let another one go on; None when this time there was no such moment."""
        meaning = re.sub(r"[^a-z0-9]+", "-", f"{on_unknown} {kill}".lower())
        async with self.lane() as lane:
            job_id = await _enqueue(lane, meaning, on_unknown)
            victim = await self.nursery.daemon(lane.config, kill=kill)
            await _killed_or_done(victim, lane, job_id)
            reached = [moment for moment in victim.moments() if kill.meets(moment)]
            state_found, copies_found = await self.ledger_state(meaning), len(self.copies_for(_recipient(meaning)))
            survivor = await self.nursery.daemon(lane.config)
            try:
                job = await _finished(lane, job_id)
            finally:
                await survivor.kill()
        copies = self.copies_for(_recipient(meaning))
        assert len(set(copies)) <= 1, "a second copy has another Message-ID"
        if not reached:
            return None
        return Crash(
            moment=reached[0],
            state_found=state_found,
            copies_found=copies_found,
            state=await self.ledger_state(meaning),
            copies=len(copies),
            job=job,
        )


@asynccontextmanager
async def scene(
    redis_url: str, database_url: str, folder: Path, *, lanes: int = LANES, header: str | None = None
) -> AsyncGenerator[Scene]:
    (folder / "plugins").mkdir()
    (folder / "plugins" / "crash.py").write_text(PLUGIN)
    async with AsyncExitStack() as stack:
        kind = Mailbox if header is None else MemorisingMailbox
        mailbox = await stack.enter_async_context(kind(folder / "mails", username="u", password="p"))
        nursery = await stack.enter_async_context(Nursery.open(folder))
        database = await stack.enter_async_context(asyncpg.create_pool(database_url, min_size=1, max_size=2))
        async with database.acquire() as connection:
            await migrate(connection)
        free: asyncio.Queue[Lane] = asyncio.Queue()
        for number in range(lanes):
            url = f"{redis_url}?db={number}"
            home = folder / f"lane-{number}"
            home.mkdir()
            site = Site(
                folder=home,
                redis_url=url,
                database_url=database_url,
                mailbox=mailbox,
                plugins_dir=folder / "plugins",
                extra={
                    "worker": {"lease_seconds": 1.0},
                    **({} if header is None else {"mail": {"idempotency_header": header}}),
                },
            )
            config = site.config
            config.write_text(f'load_plugins = ["crash"]\n{config.read_text()}')
            client = await stack.enter_async_context(AsyncClient(url))
            free.put_nowait(Lane(client=client, config=config))
        yield Scene(nursery=nursery, mailbox=mailbox, database=database, lanes=free)


async def sweep(stage: Scene, kills: Iterable[Kill], on_unknown: OnUnknown) -> list[Crash]:
    found = await asyncio.gather(*(stage.crash_at(kill, on_unknown) for kill in kills))
    return [crash for crash in found if crash is not None]


def judge(crash: Crash, on_unknown: OnUnknown, *, server_drops_copies: bool) -> None:
    """Exactly one copy, whatever happened; except where nobody can know, and the policy decides."""
    where = f"{crash.moment}: {crash}"
    assert crash.lost == 0, where
    if not crash.is_ambiguous or server_drops_copies:
        assert (crash.copies, crash.state, crash.job.state) == (1, "sent", JobState.COMPLETED), where
    elif on_unknown == "resend":
        assert (crash.copies, crash.state) == (crash.copies_found + 1, "sent"), where
        assert crash.job.state is JobState.COMPLETED, where
    else:
        assert (crash.copies, crash.state) == (crash.copies_found, "unknown"), where
        assert crash.job.state is JobState.DISCARDED, where
        assert "may have arrived" in (crash.job.errors[-1].error if crash.job.errors else ""), where


AT_THE_DOT = (
    Kill(place="ledger.py:dot"),
    Kill(place="smtp_connection.py:_hand_over"),
    Kill(place="smtp_connection.py:_hand_over", is_over=True),
    Kill(place="ledger.py:sent"),
)
DECISIVE = (
    Kill(place="executor.py:_perform"),
    Kill(place="ledger.py:begin"),
    Kill(place="ledger.py:begin", is_over=True),
    Kill(place="smtp_connection.py:_offer"),
    *AT_THE_DOT,
    Kill(place="consumer.py:_turn"),
)
"""Where a mail's fate is decided: before it is begun, in the ledger, at MAIL, on either side of the dot, at the end."""


async def test_killed_where_a_mails_fate_is_decided_the_count_is_exact(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    async with scene(redis_url, database_url, tmp_path) as stage:
        resent, held = await asyncio.gather(sweep(stage, DECISIVE, "resend"), sweep(stage, AT_THE_DOT, "hold"))
    print(table(resent), table(held), sep="\n\n")  # noqa: T201 - with -s it says where
    assert (len(resent), len(held)) == (len(DECISIVE), len(AT_THE_DOT)), "the mail did not pass all of these places"
    for crash in resent:
        judge(crash, "resend", server_drops_copies=False)
    for crash in held:
        judge(crash, "hold", server_drops_copies=False)
    assert {crash.is_ambiguous for crash in resent} == {crash.is_ambiguous for crash in held} == {True, False}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("on_unknown", "header"), [("resend", None), ("hold", None), ("resend", HEADER), ("hold", HEADER)]
)
async def test_killed_at_every_await_the_count_is_exact(
    redis_url: str, database_url: str, tmp_path: Path, on_unknown: OnUnknown, header: str | None
) -> None:
    async with scene(redis_url, database_url, tmp_path, header=header) as stage:
        moments = await stage.moments(on_unknown)
        crashes = await sweep(stage, (Kill.at(moment) for moment in moments), on_unknown)
    print(table(crashes), summary(crashes, moments), sep="\n\n")  # noqa: T201 - with -s it is the report
    for crash in crashes:
        judge(crash, on_unknown, server_drops_copies=header is not None)
    missed = {moment.where for moment in moments} - {crash.moment.where for crash in crashes}
    assert not missed, "no kill met these awaits"


async def test_one_meaning_in_two_jobs_is_sent_once_also_when_two_daemons_run_them_at_once(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    meanings = [f"same-{number}" for number in range(10)]
    async with scene(redis_url, database_url, tmp_path, lanes=1) as stage, stage.lane() as lane:
        daemons = [await stage.nursery.daemon(lane.config) for _ in range(2)]
        jobs = {meaning: [await _enqueue(lane, meaning, "hold") for _ in range(2)] for meaning in meanings}
        for meaning, job_ids in jobs.items():
            results = [(job.state, job.result) for job in [await _finished(lane, job_id) for job_id in job_ids]]
            assert results == [(JobState.COMPLETED, one) for one in stage.copies_for(_recipient(meaning)) * 2]
        later = await _finished(lane, await _enqueue(lane, meanings[0], "hold"))
        assert later.result in stage.copies_for(_recipient(meanings[0]))
        assert len(stage.mailbox.received) == len(meanings)
        for daemon in daemons:
            assert daemon.moments(), "a daemon had nothing to do"
            await daemon.kill()


def table(crashes: Sequence[Crash]) -> str:
    """Neighbours that went the same way share a line."""
    lines = ["| killed | task | ledger | copies then | copies at last | lost | duplicated | job |"]
    lines.append("| --- | --- | --- | ---: | ---: | ---: | ---: | --- |")
    for crash in crashes:
        cells = (
            str(crash.moment),
            crash.moment.task,
            f"{crash.state_found} → {crash.state}",
            *(crash.copies_found, crash.copies, crash.lost, crash.duplicated),
            crash.job.state.value,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _recipient(meaning: str) -> str:
    return f"{meaning}@example.com"


async def _enqueue(lane: Lane, meaning: str, on_unknown: OnUnknown) -> str:
    payload = CrashMail(to=_recipient(meaning), meaning=meaning, on_unknown=on_unknown)
    return (await lane.client.enqueue(payload)).job_id


async def _finished(lane: Lane, job_id: str) -> Job:
    job = await lane.client.wait(job_id, queue="default", timeout=PATIENCE)
    assert job is not None
    assert job.state.is_final, f"{job_id} is still {job.state}"
    return job


async def _killed_or_done(victim: Victim, lane: Lane, job_id: str) -> None:
    """Return when the victim has killed itself; one that did not come to the moment is killed when its job is done."""
    done = asyncio.create_task(_finished(lane, job_id))
    ended = asyncio.create_task(victim.ended())
    await asyncio.wait((done, ended), return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(ended), timedelta(seconds=1).total_seconds())
    done.cancel()
    await victim.kill()
    await ended


async def _until_it_rests(daemon: Victim) -> None:
    async def rests() -> bool:
        moments = daemon.moments()
        return bool(moments) and moments[-1].task == "queue" and moments[-1].path[-1].endswith(":_news_within")

    await eventually(rests)


def summary(crashes: Sequence[Crash], moments: Sequence[Moment]) -> str:
    ambiguous = sum(crash.is_ambiguous for crash in crashes)
    held = sum(crash.is_held for crash in crashes)
    return (
        f"{len(crashes)} kills at {len({moment.where for moment in moments})} awaits, {ambiguous} of them between the "
        f"commit of dot and that of sent: lost {sum(crash.lost for crash in crashes)}, "
        f"duplicated {sum(crash.duplicated for crash in crashes)}, held {held}"
    )
