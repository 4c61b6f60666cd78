"""How an application enqueues, over Redis, HTTP or PostgreSQL: the same words for each, with await and without.

Importing this loads no server library; each is loaded when a client first connects.
"""

from skycap.client.async_client import AsyncClient
from skycap.client.base import BaseClient
from skycap.client.recorder import Recorder
from skycap.client.sync_client import Client

__all__ = ["AsyncClient", "BaseClient", "Client", "Recorder"]
