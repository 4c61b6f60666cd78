"""A private, real Valkey and PostgreSQL for the demo, for development and for tests: no port, no account, no trace.

They listen on unix sockets in a data folder, run as any user or as root, and end with the process that started them,
even when that is killed. Production configures its own servers and never comes here.
"""

from skycap.embedded.binaries import EmbeddedUnavailable
from skycap.embedded.folder import Addresses, FolderInUse, read_addresses
from skycap.embedded.process import ServerFailed
from skycap.embedded.servers import EmbeddedServers

__all__ = [
    "Addresses",
    "EmbeddedServers",
    "EmbeddedUnavailable",
    "FolderInUse",
    "ServerFailed",
    "read_addresses",
]
