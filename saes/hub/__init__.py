"""The Hub: the only package that imports huggingface_hub. Arguments in, plain dataclasses out."""

from saes.hub.cache import in_cache
from saes.hub.client import Hub
from saes.hub.http import Interrupted, exact, gathered, hang_up
from saes.hub.identity import Identity
from saes.hub.limits import Limits
from saes.hub.network import without_user
from saes.hub.refs import Listing, RemoteFile, RepoRef
from saes.hub.sending import Committed, Outgoing, Shipment
from saes.hub.source import HubSource

__all__ = [
    "Committed",
    "Hub",
    "HubSource",
    "Identity",
    "Interrupted",
    "Limits",
    "Listing",
    "Outgoing",
    "RemoteFile",
    "RepoRef",
    "Shipment",
    "exact",
    "gathered",
    "hang_up",
    "in_cache",
    "without_user",
]
