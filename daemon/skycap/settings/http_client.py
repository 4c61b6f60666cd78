"""The table of the client with which handlers call partners."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from pydantic import Field, field_validator

from skycap.settings.masking import quoted
from skycap.settings.section import Section


class HttpClientSettings(Section):
    """How handlers call partners over HTTP (ctx.http). How long a call may take in all, its breaker says."""

    connections: int = Field(default=100, ge=1, le=10_000, description="Connections that one daemon opens at most.")
    connections_per_host: int = Field(default=20, ge=1, le=10_000, description="As many of them to one host.")
    connect_timeout_seconds: float = Field(
        default=5.0, ge=0.05, le=300, description="How long reaching a partner may take."
    )
    largest_answer_bytes: int = Field(
        default=10 * 1024 * 1024, ge=1024, le=1024**3, description="A longer answer is refused, however it is packed."
    )
    allow_private: list[str] = Field(
        default=[],
        description="Networks inside the company that may be called all the same. Else no private, loopback, "
        "link-local or otherwise special address is, whatever a name stands for.",
        examples=[["10.20.0.0/16"]],
    )

    @property
    def private_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(text) for text in self.allow_private)

    @field_validator("allow_private")
    @classmethod
    def _networks(cls, texts: list[str]) -> list[str]:
        for text in texts:
            try:
                ip_network(text)
            except ValueError:
                raise ValueError(f"{quoted(text)} is no network; write it as 10.20.0.0/16 or 10.20.0.7") from None
        return texts
