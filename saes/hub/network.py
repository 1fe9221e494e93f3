"""Certificates of the usual variables, and hosts that a public Hub has no business to name."""

import ipaddress
import os
import re
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from saes import errors

# The names of OpenSSL, of requests and of curl; the first that is set counts.
BUNDLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

_USER = re.compile(r"^([^/?#]*://)[^/?#]*@")


def without_user(url: str) -> str:
    """As it may be shown and stored: a mirror's address may hold a name and a password."""
    return _USER.sub(r"\1", url)


def tls() -> ssl.SSLContext | bool:
    """The certificates to trust; True leaves it to the client. Raises HubUnreachable."""
    for name in BUNDLES:
        if path := os.environ.get(name):
            return _trusting(name, path)
    return True


def _trusting(name: str, path: str) -> ssl.SSLContext:
    try:
        if all(Path(folder).is_dir() for folder in path.split(os.pathsep)):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise errors.HubUnreachable(
            f"{name} names no file of certificates.",
            solution=f"Correct {name} or unset it, and start miStudio again.",
        ) from error


def refuse_inner_host(url: str, home: str) -> None:
    """A Hub of the internet sends nobody to this machine, or to another one behind the firewall.

    Raises HubMisbehaved. A Hub that lies inside itself, such as a mirror, may.
    """
    parts = urlsplit(url)
    if _goes_by_proxy(parts.scheme, parts.hostname or ""):
        return  # the proxy looks the name up, not this machine
    if _is_inner(parts.hostname or ""):
        _refuse_unless_inner(home)


def refuse_downgrade(url: str, home: str) -> None:
    """What is meant for a Hub that is asked by https goes nowhere in the clear.

    Raises HubMisbehaved.
    """
    if urlsplit(home).scheme == "https" and urlsplit(url).scheme != "https":
        raise errors.HubMisbehaved("The Hub pointed to a host that is not asked by https.")


def refuse_inner_peer(answer: httpx2.Response, home: str) -> None:
    """The same of the host that answers: its name may have meant another one a moment ago."""
    stream = answer.extensions.get("network_stream")
    peer = stream.get_extra_info("server_addr") if stream else None
    goes_by_proxy = _goes_by_proxy(answer.url.scheme, answer.url.host)
    if peer and not goes_by_proxy and not _address(str(peer[0])).is_global:
        _refuse_unless_inner(home)


def _refuse_unless_inner(home: str) -> None:
    if not _is_inner(urlsplit(home).hostname or ""):
        raise errors.HubMisbehaved("The Hub pointed to a host that is not on the internet.")


def _goes_by_proxy(scheme: str, host: str) -> bool:
    proxies = getproxies()
    return bool((proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(host))


def _is_inner(host: str) -> bool:
    """Whether any of its addresses is none of the internet. A name that nobody knows is none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # connecting will say so
    return any(not _address(str(it[4][0])).is_global for it in found)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
