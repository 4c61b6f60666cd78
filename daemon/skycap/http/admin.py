"""What admins see and do over HTTP, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from skycap.engine.audit import AuditLog
from skycap.engine.breakers import FleetBreakers
from skycap.http.alarms import AlarmRoutes
from skycap.http.audit_list import AuditRoutes
from skycap.http.breaker_actions import BreakerActions
from skycap.http.dead import DeadRoutes
from skycap.http.job_actions import JobActions
from skycap.http.job_list import JobListRoutes
from skycap.http.kind_actions import KindActions
from skycap.http.plugins import PluginRoutes
from skycap.http.queues import QueueRoutes
from skycap.http.schedules import ScheduleRoutes, Schedules

if TYPE_CHECKING:
    from skycap.breaker import BreakerSpec
    from skycap.engine.link import Link
    from skycap.engine.queue import Queue
    from skycap.http.bodies import Bodies
    from skycap.http.server import Routes
    from skycap.registry import Registry


def admin_routes(
    link: Link,
    queues: Mapping[str, Queue],
    registry: Registry,
    *,
    breakers: Mapping[str, BreakerSpec],
    schedules: Schedules,
    bodies: Bodies,
) -> Sequence[Routes]:
    """The lists and the actions of one daemon."""
    return [
        QueueRoutes(queues, bodies),
        JobListRoutes(queues),
        JobActions(queues, bodies),
        DeadRoutes(queues, bodies),
        KindActions(registry.job_types, queues, bodies),
        ScheduleRoutes(schedules, bodies),
        BreakerActions(FleetBreakers(link), breakers, bodies),
        AlarmRoutes(link),
        PluginRoutes(registry.plugins),
        AuditRoutes(AuditLog(link)),
    ]
