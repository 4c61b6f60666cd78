"""taskiq's result backend, for jobs that a taskiq application enqueued and whose results it looks for there."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from taskiq import AsyncResultBackend
from taskiq.serializers import JSONSerializer
from taskiq_redis import (
    RedisAsyncClusterResultBackend,
    RedisAsyncResultBackend,
    RedisAsyncSentinelResultBackend,
)

from skycap.engine.hosts import Hosts
from skycap.engine.sentinel import SENTINEL_PORT

KEPT = timedelta(hours=24)
"""How long a result can be fetched; taskiq-redis itself would keep it for ever."""


def result_backend(url: str) -> AsyncResultBackend[Any]:
    """One that writes what ``RedisAsyncResultBackend(url, serializer=JSONSerializer())`` reads: JSON, never pickle."""
    scheme = url.partition("://")[0]
    options: dict[str, Any] = {"serializer": JSONSerializer(), "result_ex_time": round(KEPT.total_seconds())}
    if scheme.endswith("+cluster"):
        return RedisAsyncClusterResultBackend(_first_node(url), **options)
    if scheme.endswith("+sentinel"):
        hosts = Hosts.parse(url, default_port=SENTINEL_PORT)
        service, *database = hosts.path
        master = {name: value for name, value in hosts.options.items() if not name.startswith("sentinel_")}
        if database:
            master["db"] = int(database[0])
        return RedisAsyncSentinelResultBackend(list(hosts.addresses), service, ssl=hosts.tls, **options, **master)
    return RedisAsyncResultBackend(url, **options)


def _first_node(url: str) -> str:
    """One node is enough: it names the others."""
    address = re.fullmatch(r"(rediss?)\+cluster(://(?:[^@/]*@)?[^,/?]*)[^/?]*(.*)", url)
    if address is None:
        raise ValueError("is no address of a cluster; write redis+cluster://host:port,host:port")
    return "".join(address.groups())
