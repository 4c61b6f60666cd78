"""The sender's domain in the DNS: what receivers look at before they take a mail."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dns.asyncresolver import Resolver
from dns.exception import DNSException, Timeout
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT
from dns.resolver import NXDOMAIN, LifetimeTimeout, NoAnswer, NoNameservers, NoResolverConfiguration

from skycap.checks.finding import CannotLook, Finding, fail, ok, warn
from skycap.checks.group import Group
from skycap.checks.installation import Installation
from skycap.settings import Settings

_PATIENCE_SECONDS = 3.0
_TAG = re.compile(r"\s*(?P<name>[a-z]+)\s*=\s*(?P<value>[^;]*?)\s*(?:;|$)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Zone:
    """``domain`` is of the From of mails, ``envelope`` of the address that bounces go to."""

    settings: Settings
    resolver: Resolver
    domain: str
    envelope: str

    async def texts(self, name: str) -> list[str]:
        """The TXT records of a name; none where there is no such name. Raises CannotLook without an answer."""
        try:
            answer = await self.resolver.resolve(name, "TXT")
        except (NXDOMAIN, NoAnswer):
            return []
        except DNSException as error:
            raise CannotLook(_why(error)) from error
        return [b"".join(each.strings).decode("utf-8", "replace") for each in answer if isinstance(each, TXT)]

    async def exchanges(self, name: str) -> list[str]:
        try:
            answer = await self.resolver.resolve(name, "MX")
        except (NXDOMAIN, NoAnswer):
            return []
        except DNSException as error:
            raise CannotLook(_why(error)) from error
        return [each.exchange.to_text(omit_final_dot=True) for each in answer if isinstance(each, MX)]


@asynccontextmanager
async def _opened(installation: Installation) -> AsyncGenerator[Zone]:
    settings = installation.require_settings()
    if settings.smtp.sender is None:
        raise CannotLook("smtp.sender is not set")
    try:
        resolver = _resolver(installation.nameserver)
    except NoResolverConfiguration as error:
        raise CannotLook("this host asks no DNS (/etc/resolv.conf)") from error
    domain = _domain(settings.smtp.sender)
    yield Zone(
        settings=settings,
        resolver=resolver,
        domain=domain,
        envelope=_domain(settings.mail.bounce_address) if settings.mail.bounce_address else domain,
    )


dns = Group("dns", _opened)


@dns.check
async def mx(zone: Zone) -> Finding:
    """The domain that bounces go to takes mails: an MX record."""
    found = await zone.exchanges(zone.envelope)
    if not found:
        return warn(f"{zone.envelope} has no MX record: bounces and replies reach nobody", "publish one")
    if found == ["."]:
        return fail(
            f"{zone.envelope} says that it takes no mail (a null MX), and receivers may refuse such senders",
            "publish an MX record",
        )
    return ok(f"{zone.envelope} has {len(found)} MX records")


@dns.check
async def spf(zone: Zone) -> Finding:
    """The domain says which hosts may send for it: one SPF record, which does not allow all."""
    records = [text for text in await zone.texts(zone.envelope) if text.lower().split(" ")[0] == "v=spf1"]
    if not records:
        fix = f'publish at {zone.envelope}: "v=spf1 include:YOUR-PROVIDER -all", with what your mail provider says'
        return fail(f"{zone.envelope} has no SPF record, and large receivers refuse or hide such mails", fix)
    if len(records) > 1:
        return fail(f"{zone.envelope} has {len(records)} SPF records, which counts as none (RFC 7208)", "make them one")
    terms = records[0].lower().split()
    if terms[-1] in {"+all", "all"}:
        return fail(f"the SPF record of {zone.envelope} allows every host to send for it", "end it with -all or ~all")
    return ok(records[0])


@dns.check
async def dkim(zone: Zone) -> Finding:
    """The key that receivers verify signatures with is published, where the selector is known."""
    selector, domain = zone.settings.mail.dkim_selector, zone.settings.mail.dkim_domain
    if selector is None or domain is None:
        raise CannotLook("mail.dkim_selector is not set: the mail server signs, and knows its selector")
    name = f"{selector}._domainkey.{domain}"
    keys = [tags["p"] for text in await zone.texts(name) if "p" in (tags := _tags(text))]
    if not keys:
        return fail(
            f"{name} has no key, and signatures count as broken", "publish the public key there (v=DKIM1; k=rsa; p=…)"
        )
    if not keys[0]:
        return fail(f"the key at {name} is revoked (p= is empty)", "publish a new one, or take another selector")
    if not _aligned(domain, zone.domain):
        return warn(
            f"mails are signed for {domain}, and come from {zone.domain}: DMARC does not count it",
            "sign for the sender's domain",
        )
    return ok(f"published at {name}")


@dns.check
async def dmarc(zone: Zone) -> Finding:
    """The domain says what becomes of mails that are neither: a DMARC record."""
    for domain in (zone.domain, _parent(zone.domain)):
        records = [tags for text in await zone.texts(f"_dmarc.{domain}") if (tags := _tags(text)).get("v") == "DMARC1"]
        if len(records) > 1:
            return fail(f"_dmarc.{domain} has {len(records)} records, which counts as none (RFC 7489)", "make them one")
        if records:
            policy = records[0].get("p", "")
            if policy not in {"none", "quarantine", "reject"}:
                return fail(f"the DMARC record of {domain} has no policy", "give it p=none, p=quarantine or p=reject")
            return ok(f"{domain} has p={policy}")
    fix = f'publish at _dmarc.{zone.domain}: "v=DMARC1; p=none; rua=mailto:dmarc@{zone.domain}", and tighten it later'
    return warn(f"{zone.domain} has no DMARC record, which large receivers want of whoever sends much", fix)


def _resolver(nameserver: str | None) -> Resolver:
    resolver = Resolver(configure=nameserver is None)
    if nameserver is not None:
        host, _, port = nameserver.rpartition(":") if nameserver.count(":") == 1 else (nameserver, "", "")
        resolver.nameservers = [host]
        resolver.port = int(port or 53)
    resolver.lifetime = _PATIENCE_SECONDS
    return resolver


def _why(error: DNSException) -> str:
    match error:
        case LifetimeTimeout() | Timeout():
            return "DNS did not answer"
        case NoNameservers():
            return "DNS did not answer: no server that was asked could say"
        case _:
            return f"DNS did not answer ({type(error).__name__})"


def _domain(mailbox: str) -> str:
    return mailbox.rpartition("@")[2].rstrip(">").strip().encode("idna").decode()


def _parent(domain: str) -> str:
    """The organisation's, where that is the part below the first label."""
    above = domain.partition(".")[2]
    return above if "." in above else domain


def _aligned(signed: str, sender: str) -> bool:
    return signed == sender or sender.endswith(f".{signed}") or signed.endswith(f".{sender}")


def _tags(record: str) -> dict[str, str]:
    return {found["name"].lower(): found["value"].replace(" ", "") for found in _TAG.finditer(record)}
