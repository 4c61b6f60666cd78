"""Payload: the validated arguments of one kind of job, and what an enqueuer must know about that kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from skycap.unique import Unique

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the fields of one version of a payload into those of the next."""

LARGEST_BYTES = 256 * 1024
"""A job larger than this is refused, unless its kind says otherwise: Redis holds every waiting one in memory."""

HIGHEST_PRIORITY, LOWEST_PRIORITY = 1, 1000

_KIND = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class PayloadSpec:
    """What the enqueuer must know of a kind; what only the worker needs lives in its JobType."""

    kind: str
    queue: str
    priority: int
    version: int = 1
    upgrades: Mapping[int, Upgrade] = field(default_factory=dict[int, Upgrade])
    aliases: tuple[str, ...] = ()
    unique: Unique | None = None
    largest_bytes: int = LARGEST_BYTES

    def __post_init__(self) -> None:
        for name in (self.kind, *self.aliases):
            if not _KIND.fullmatch(name):
                raise TypeError(f"kind {name!r}: write lower-case words joined by hyphens, like 'send-receipt'")
        if not HIGHEST_PRIORITY <= self.priority <= LOWEST_PRIORITY:
            raise TypeError(
                f"{self.kind}: priority {self.priority} is outside {HIGHEST_PRIORITY} (first) to {LOWEST_PRIORITY}"
            )
        missing = sorted(set(range(1, self.version)) - set(self.upgrades))
        if missing:
            raise TypeError(
                f"{self.kind}: version {self.version} has no upgrade from version {missing[0]}; "
                f"give upgrades={{{missing[0]}: function}}"
            )


class Payload(BaseModel):
    """Base of all payloads: ``class Receipt(Payload, kind="send-payment-receipt", queue="email"): …``.

    Fields are snake_case here and camelCase on the wire; both are read. Unknown fields are refused when a
    job is enqueued and ignored when it runs, so that a newer backend may add one before the workers know it.
    ``largest_bytes`` is what a whole job of this kind may have; more than the usual is for files that nobody stores.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # an address or a secret may be what is wrong
    )
    payload_spec: ClassVar[PayloadSpec]

    def __init_subclass__(
        cls,
        *,
        kind: str | None = None,
        queue: str = "default",
        priority: int = 10,
        version: int = 1,
        upgrades: Mapping[int, Upgrade] | None = None,
        aliases: tuple[str, ...] = (),
        unique: Unique | None = None,
        largest_bytes: int = LARGEST_BYTES,
        **config: Any,
    ) -> None:
        unknown = sorted(set(config) - set(ConfigDict.__annotations__))
        if kind is None or unknown:
            raise TypeError(
                f"payload {cls.__name__} needs a kind: class {cls.__name__}(Payload, kind='send-something', queue=…)"
                + (f"; not understood: {', '.join(unknown)}" if unknown else "")
            )
        super().__init_subclass__(**config)
        cls.payload_spec = PayloadSpec(
            kind=kind,
            queue=queue,
            priority=priority,
            version=version,
            upgrades=upgrades or {},
            aliases=aliases,
            unique=unique,
            largest_bytes=largest_bytes,
        )

    @classmethod
    def __pydantic_init_subclass__(cls, **config: Any) -> None:
        super().__pydantic_init_subclass__(**config)
        unique = cls.payload_spec.unique
        unknown = [name for name in unique.by if name not in cls.model_fields] if unique else []
        if unknown:
            raise TypeError(
                f"{cls.__name__}: unique by {unknown[0]!r}, which is no field; fields: {', '.join(cls.model_fields)}"
            )

    def on_the_wire(self) -> dict[str, Any]:
        """The fields as JSON values under their camelCase names."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def wire_names(cls) -> Mapping[str, str]:
        """The fields' names on the wire by their names here."""
        names = _wire_names.get(cls)
        if names is None:
            names = MappingProxyType({name: field.alias or name for name, field in cls.model_fields.items()})
            _wire_names[cls] = names
        return names


_wire_names: WeakKeyDictionary[type[Payload], Mapping[str, str]] = WeakKeyDictionary()
"""Each job that is enqueued asks for them. A reload leaves the payloads of the plugins before it to be forgotten."""
