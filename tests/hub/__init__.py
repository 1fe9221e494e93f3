"""A small server that speaks the Hub's HTTP protocol, for tests over real sockets."""

from tests.hub import faults, upload_faults
from tests.hub.blobs import Blob, Forged, Hollow, Zeros
from tests.hub.repos import Repo
from tests.hub.server import LocalHub

__all__ = ["Blob", "Forged", "Hollow", "LocalHub", "Repo", "Zeros", "faults", "upload_faults"]
