"""Row S23 and the usual variables: inner hosts, proxies, certificates, mirrors, offline mode."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from saes import errors, parts, patience
from saes.hub import Hub, HubSource, Interrupted, Limits, http
from saes.hub.network import refuse_inner_host
from tests.hub import Hollow, LocalHub, api, certificate, content, faults
from tests.hub.blobs import Blob, Bytes
from tests.hub.routes import Route
from tests.transfer.downloading import REPO, Arriving
from tests.transfer.proxy import Proxy

PUBLIC = "https://huggingface.co"
NAME = "sae.safetensors"
FILES: dict[str, Blob] = {NAME: Hollow(700_000, seed=3), "cfg.json": Bytes(b"{}")}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def fresh_clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """They read the environment when they are made."""
    for name in (*PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    close()
    yield
    close()


def close() -> None:
    huggingface_hub.close_session()
    while http._bodies:
        http._bodies.pop().close()


@pytest.fixture(autouse=True)
def repo(hub: LocalHub) -> None:
    hub.add_repo(REPO, FILES)


# --- inner hosts ----------------------------------------------------------------------------------

INNER = [
    "127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost",
    "LOCALHOST", "huggingface.co@127.0.0.1", "user:secret@127.0.0.1", "127.0.0.1:443", "0.0.0.0",
    "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "[::1]", "[::]",
    "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[fd00::1]",
]  # fmt: skip


@pytest.mark.parametrize("host", INNER)
def test_s23_a_public_hub_sends_nobody_to_an_inner_host(host: str) -> None:
    with pytest.raises(errors.HubMisbehaved, match="not on the internet"):
        refuse_inner_host(f"https://{host}/file", PUBLIC)


@pytest.mark.parametrize("host", ["localhost.", "[fe80::1%25lo]", "127.0.0.1%00.example.com"])
def test_s23_an_inner_host_that_only_some_systems_know_is_never_reached(host: str) -> None:
    never = pytest.raises((errors.HubMisbehaved, Interrupted))
    with never, http.ranged(f"http://{host}:9/file", 0, 9, PUBLIC, None, Limits()):
        pass


@pytest.mark.parametrize("host", ["93.184.216.34", "[2606:4700::6810:1]", "nobody.invalid"])
def test_s23_hosts_of_the_internet_may_hold_files(host: str) -> None:
    refuse_inner_host(f"https://{host}/file", PUBLIC)


@pytest.mark.parametrize("home", ["http://127.0.0.1:8000", "https://localhost/hub"])
def test_s23_a_mirror_inside_may_name_its_neighbours(home: str) -> None:
    refuse_inner_host("http://10.0.0.1/file", home)


def answering(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """`flips.example` means each of these addresses in turn."""
    true, left = socket.getaddrinfo, list(addresses)

    def getaddrinfo(host: Any, *given: Any, **more: Any) -> Any:
        known = host if host != "flips.example" else left.pop(0) if len(left) > 1 else left[0]
        return true(known, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_s23_a_name_of_an_inner_host_is_refused_before_it_is_asked(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, "127.0.0.1")
    url = hub.cdn_url.replace("127.0.0.1", "flips.example")
    with pytest.raises(errors.HubMisbehaved), http.ranged(url, 0, 9, PUBLIC, None, Limits()):
        pass
    assert hub.log.requests() == []


def test_s23_a_name_that_flips_to_an_inner_host_gives_no_byte(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = Arriving(hub, tmp_path)
    url = download.client.locate(download.listing, download.listing.files[NAME])
    url = url.replace("127.0.0.1", "flips.example")
    answering(monkeypatch, "93.184.216.34", "127.0.0.1")
    with pytest.raises(errors.HubMisbehaved), http.ranged(url, 0, 9, PUBLIC, None, Limits()):
        pass


@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/x", "//", "https://",
              "http://[::1", "http://127.0.0.1:99999/", "\x00"],
)  # fmt: skip
def test_s23_an_address_that_is_none_is_refused(hub: LocalHub, tmp_path: Path, place: str) -> None:
    download = Arriving(hub, tmp_path)
    hub.faults.add(
        NAME, faults.headers({"Location": place}), where="hub", method="HEAD", times=None
    )
    source = HubSource(download.client, download.listing)
    with pytest.raises(errors.SaeError):
        source.read(NAME, 0, 100)


def test_s23_a_file_host_that_sends_on_to_another_is_not_followed(
    hub: LocalHub, tmp_path: Path
) -> None:
    with LocalHub() as other:
        hub.faults.add(NAME, faults.redirect(f"{other.url}/x"), where="cdn", times=None)
        with pytest.raises((errors.SaeError, Interrupted)):
            Arriving(hub, tmp_path).run()
        assert other.log.requests() == []


# --- proxies --------------------------------------------------------------------------------------


def came(hub: LocalHub, folder: Path, endpoint: str) -> bool:
    download = Arriving(hub, folder, Hub(endpoint))
    return {path.name: path.stat().st_size for path in download.run()} == {
        name: it.size for name, it in FILES.items()
    }


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_everything_goes_by_the_proxy_of_the_environment(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The proxy alone knows the Hub; it is an inner host itself, as proxies are."""
    with Proxy(hub=hub.url) as proxy:
        if variable == "http_proxy":
            monkeypatch.delenv("REQUEST_METHOD", raising=False)
        monkeypatch.setenv(variable, proxy.url)
        answering(monkeypatch, "93.184.216.34")
        assert came(hub, tmp_path, "http://hub.example")
        assert any("hub.example/api/" in asked for asked in proxy.asked)
        assert any(hub.cdn_url in asked for asked in proxy.asked), "bodies, too"


def test_https_goes_through_the_proxy_as_a_tunnel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = certificate.make(tmp_path)
    with LocalHub(tls=tls) as hub, Proxy() as proxy:
        hub.add_repo(REPO, FILES)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert came(hub, tmp_path, hub.url)
        assert {asked.split(" ")[0] for asked in proxy.asked} == {"CONNECT"}
        assert {asked.split(" ")[1] for asked in proxy.asked} == {
            url.removeprefix("https://") for url in (hub.url, hub.cdn_url)
        }


@pytest.mark.parametrize("but", ["127.0.0.1", "*", "example.com,127.0.0.1"])
def test_hosts_of_no_proxy_are_asked_directly(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, but: str
) -> None:
    with Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", but)
        assert came(hub, tmp_path, hub.url)
        assert proxy.asked == []


@pytest.mark.parametrize("value", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "foo://x:y"])
def test_a_proxy_that_cannot_be_used_is_told_in_words(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(errors.HubUnreachable):
        Arriving(hub, tmp_path)


# --- certificates ---------------------------------------------------------------------------------

BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.mark.parametrize("variable", BUNDLES)
def test_a_hub_with_a_certificate_of_ones_own_is_trusted_by_the_usual_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    tls, trusted = certificate.make(tmp_path)
    with LocalHub(tls=tls) as hub:
        hub.add_repo(REPO, FILES)
        with pytest.raises(errors.HubUnreachable):
            Arriving(hub, tmp_path)
        close()
        monkeypatch.setenv(variable, str(trusted))
        assert came(hub, tmp_path, hub.url)


@pytest.mark.parametrize("variable", [*BUNDLES, "SSL_CERT_DIR"])
@pytest.mark.parametrize("there", ["nothing", "no certificate"])
def test_a_wrong_path_of_certificates_is_told_by_its_variable(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, there: str
) -> None:
    if there == "no certificate":
        (tmp_path / "wrong.pem").write_text("this is none")
    monkeypatch.setenv(variable, str(tmp_path / "wrong.pem"))
    with pytest.raises(errors.HubUnreachable, match=variable):
        Arriving(hub, tmp_path)


def test_a_connection_with_tls_that_stands_still_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "STALLED", 0.5)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(parts, "PIECE", 100_000)
    tls, trusted = certificate.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with LocalHub(tls=tls) as hub:
        hub.add_repo(REPO, FILES)
        hub.faults.add(NAME, faults.stall(50_000, 60), where="cdn", times=3)
        hub.faults.add(NAME, faults.slow(3000), where="cdn", times=3, skip=3)
        download = Arriving(hub, tmp_path)
        for path in download.run():
            assert path.stat().st_size in (700_000, 2)
        assert hub.log.bytes_sent(NAME, "cdn") < 700_000 + 100_000


# --- mirrors --------------------------------------------------------------------------------------


class Mirror(LocalHub):
    """All of it below a path, beside nothing else."""

    routes: tuple[Route, ...] = tuple(
        (methods, re.compile(f"(?:/mirror/hf)?{pattern.pattern}"), action)
        for methods, pattern, action in (*api.ROUTES, *content.ROUTES)
    )


def test_a_mirror_may_have_a_path_and_another_host_for_its_files(tmp_path: Path) -> None:
    with Mirror() as hub:
        hub.add_repo(REPO, FILES)
        assert came(hub, tmp_path, f"{hub.url.replace('127.0.0.1', 'localhost')}/mirror/hf")
        asked = [it.path for it in hub.log.requests(origin="hub")]
        assert all(path.startswith(("/mirror/hf/", "/api/resolve-cache/")) for path in asked)


# --- offline --------------------------------------------------------------------------------------


def test_offline_mode_is_answered_at_once_and_asks_nobody(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = Arriving(hub, tmp_path)
    hub.log.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for ask in (
        download.run,
        lambda: HubSource(download.client, download.listing).text("cfg.json"),
    ):
        with pytest.raises(errors.Offline, match="HF_HUB_OFFLINE"):
            ask()
    assert hub.log.requests() == []
