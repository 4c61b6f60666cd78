"""Ten thousand mails, a mail server that puts some off, and daemons that are killed: every mail arrives."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from skycap import AsyncClient, Payload
from skycap.demo.mailbox import Break, Mailbox, Phase
from skycap.embedded.waiting import until
from tests.support.daemons import Site
from tests.support.diary import Victim

_MANY = 1000
CONNECTIONS = 4
"""Of one daemon to the mail server: so many mails are between dot and 250 at most when it is killed."""

PUT_OFF = (("rcpt", "451 4.7.1 Greylisted"), ("rcpt", "421 4.3.2 Shutting down"), ("data", Break.DROP))

_MESSAGE_ID = re.compile(rb"^Message-ID: (.*?)\r?$", re.MULTILINE)

PLUGIN = """
from jinja2 import DictLoader

from skycap import Context, Payload, Plugin

TEMPLATES = {
    "storm/subject.txt.j2": "Hello {{ name }}",
    "storm/body.txt.j2": "Hello {{ name }}",
    "storm/body.html.j2": "<html><head></head><body><p>Hello {{ name }}</p></body></html>",
}
plugin = Plugin("storm", templates=DictLoader(TEMPLATES))


class StormMail(Payload, kind="storm-mail"):
    to: str


@plugin.job()
async def storm_mail(ctx: Context, payload: StormMail) -> str:
    return await ctx.mailer.send(payload.to, "storm", key=f"storm:{payload.to.partition('@')[0]}", name="Ada")
"""


class StormMail(Payload, kind="storm-mail"):
    """One mail, whose recipient is nobody else's."""

    to: str


class FickleMailbox(Mailbox):
    """Puts one recipient of a hundred off, before it has seen the mail; keeps nothing on disk.

    ``most`` is how often at most: the second wait is 20 s.
    """

    def __init__(self, folder: Path, *, most: int) -> None:
        super().__init__(folder, username="u", password="p", replies=self._reply)
        self._most = most
        self.taken: list[tuple[str, str]] = []
        """Recipient and Message-ID of each mail."""
        self.put_off: Counter[str] = Counter()

    async def keep(self, content: bytes, sender: str, recipients: Sequence[str]) -> int:
        found = _MESSAGE_ID.search(content)
        assert found, "a mail without a Message-ID"
        self.taken += [(recipient, found[1].decode()) for recipient in recipients]
        return len(self.taken)

    def _reply(self, phase: Phase, recipient: str) -> str | Break | None:
        chance = int.from_bytes(hashlib.sha256(recipient.encode()).digest()[:4])
        if not recipient or chance % 100 or self.put_off[recipient] > chance // 100 % self._most:
            return None
        where, answer = PUT_OFF[chance // 200 % len(PUT_OFF)]
        if phase != where:
            return None
        self.put_off[recipient] += 1
        return answer


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of the mails, in the words of Jepsen's checker of queues."""

    attempted: int
    acknowledged: int
    lost: frozenset[str]
    """Acknowledged, and never delivered."""
    duplicated: Mapping[str, int]
    """Delivered more than once, and how often too many."""
    unexpected: frozenset[str]
    """Delivered, though nobody asked for it."""
    recovered: frozenset[str]
    """Not acknowledged, and delivered all the same."""

    @classmethod
    def of(cls, attempted: Collection[str], acknowledged: Collection[str], delivered: Collection[str]) -> Verdict:
        copies = Counter(delivered)
        return cls(
            attempted=len(attempted),
            acknowledged=len(acknowledged),
            lost=frozenset(frozenset(acknowledged) - copies.keys()),
            duplicated={recipient: times - 1 for recipient, times in copies.items() if times > 1},
            unexpected=frozenset(copies.keys() - frozenset(attempted)),
            recovered=(frozenset(attempted) - frozenset(acknowledged)) & copies.keys(),
        )

    def __str__(self) -> str:
        return (
            f"attempted {self.attempted}, acknowledged {self.acknowledged}, lost {len(self.lost)}, "
            f"duplicated {sum(self.duplicated.values())}, unexpected {len(self.unexpected)}, "
            f"recovered {len(self.recovered)}"
        )


@dataclass(kw_only=True)
class Storm:
    """Two daemons, of which one after another is killed and replaced."""

    site: Site
    chance: random.Random
    daemons: list[Victim] = field(default_factory=list[Victim])
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def spawn(self) -> None:
        daemon = Victim(self.site.log, "--config", str(self.site.folder / "skycap.toml"))
        self.stack.push_async_callback(daemon.close)
        await daemon.spawn()
        await daemon.until_ready()
        self.daemons.append(daemon)

    async def kill_one(self) -> None:
        victim = self.daemons.pop(self.chance.randrange(len(self.daemons)))
        await victim.kill()
        await self.spawn()


async def test_three_kills_among_three_hundred_mails_lose_none(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    await storm(redis_url, database_url, tmp_path, mails=300, kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_twenty_kills_among_ten_thousand_mails_lose_none(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - another course each time
    await storm(redis_url, database_url, tmp_path, mails=10_000, kills=20, seed=seed)


async def storm(redis_url: str, database_url: str, folder: Path, *, mails: int, kills: int, seed: int) -> None:
    print(f"seed {seed}")  # noqa: T201 - with it, the run can be repeated
    chance = random.Random(seed)  # noqa: S311 - no secret
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "storm.py").write_text(PLUGIN)
    recipients = [f"guest-{number}@example.com" for number in range(mails)]
    began = time.monotonic()
    async with (
        FickleMailbox(folder / "mails", most=2 if mails > _MANY else 1) as mailbox,
        AsyncClient(redis_url) as client,
    ):
        site = Site(
            folder=folder,
            redis_url=redis_url,
            database_url=database_url,
            mailbox=mailbox,
            plugins_dir=plugins,
            extra={
                # Each of the kills may take the same job by chance, which then has not killed anybody.
                "worker": {"lease_seconds": 1.0, "poison_after": kills + 1},
                "smtp": {"connections": CONNECTIONS},
                "queues.default": {"concurrency": 2 * CONNECTIONS, "keep_finished_count": 0},
            },
        )
        site.config.write_text(f'load_plugins = ["storm"]\n{site.config.read_text()}')
        acknowledged: set[str] = set()
        for start in range(0, mails, 1000):
            batch = recipients[start : start + 1000]
            await client.enqueue_many([StormMail(to=recipient) for recipient in batch])
            acknowledged.update(batch)
        fleet = Storm(site=site, chance=chance)
        async with fleet.stack:
            await asyncio.gather(fleet.spawn(), fleet.spawn())
            for number in range(kills):
                await _delivered(mailbox, mails * (number + chance.random()) / (kills + 1))
                await asyncio.sleep(chance.random() / 5)  # in the middle of whatever it is then
                await fleet.kill_one()
            await _settled(client)
        counts = await client.queue("default").counts()
    verdict = Verdict.of(recipients, acknowledged, [recipient for recipient, _ in mailbox.taken])
    states = await _ledger_states(database_url)
    put_off = f"{len(mailbox.put_off)} mails were put off {mailbox.put_off.total()} times"
    print(f"{kills} kills: {verdict}; {put_off}; {time.monotonic() - began:.0f} s; ledger {states}")  # noqa: T201
    assert (verdict.lost, verdict.unexpected, verdict.recovered) == (frozenset(), frozenset(), frozenset())
    assert counts.discarded == 0
    assert states == {"sent": mails}
    assert mailbox.put_off, "the mail server took everything at once"
    assert sum(verdict.duplicated.values()) <= kills * CONNECTIONS, "more than were between dot and 250"
    assert len(set(mailbox.taken)) == mails, "a second copy has another Message-ID"


async def _delivered(mailbox: FickleMailbox, number: float) -> None:
    async def enough() -> bool:
        return len(mailbox.taken) >= number

    await until(enough, limit=timedelta(minutes=5))


async def _settled(client: AsyncClient) -> None:
    async def settled() -> bool:
        counts = await client.queue("default").counts()
        return counts.available + counts.later + counts.running == 0

    await until(settled, limit=timedelta(minutes=5))


async def _ledger_states(database_url: str) -> dict[str, int]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT state, count(*) FROM skycap.mail_ledger GROUP BY state")
    finally:
        await connection.close()
    return {row["state"]: row["count"] for row in rows}
