"""Which transport an address means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skycap.errors import ConfigurationError

if TYPE_CHECKING:
    from skycap.client.transport import Transport
    from skycap.signing import Signer

_REDIS = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


def transport_to(url: str, *, token: str | None, signer: Signer | None) -> Transport:
    """A transport that connects when it is first used. Raises ConfigurationError without repeating the address."""
    scheme = url.partition("://")[0].lower()
    match scheme:
        case "http" | "https":
            from skycap.client.http import HttpTransport

            return HttpTransport(url, token=token)
        case "postgresql" | "postgres":
            from skycap.client.postgres import PostgresTransport

            return PostgresTransport(url)
        case _ if scheme in _REDIS:
            from skycap.client.redis import RedisTransport

            return RedisTransport(url, signer=signer)
        case _:
            raise ConfigurationError(
                "a client's address begins with redis://, rediss://, unix://, http://, https:// or postgresql://; "
                "this one does not"
            )
