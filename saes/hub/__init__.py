"""The Hub: the only package that imports huggingface_hub. Arguments in, plain dataclasses out."""

from saes.hub.client import Hub
from saes.hub.http import Interrupted, exact
from saes.hub.refs import Listing, RemoteFile, RepoRef
from saes.hub.source import HubSource

__all__ = ["Hub", "HubSource", "Interrupted", "Listing", "RemoteFile", "RepoRef", "exact"]
