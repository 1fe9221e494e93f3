"""Files on their way up by our own shipment: what it opens, asks and refuses."""

import hashlib
import os
from pathlib import Path

import pytest

from saes.errors import DataMissing
from saes.hub import Hub, Outgoing, Shipment
from tests.hub import LocalHub

REPO = "alice/new"


@pytest.fixture
def ours(hub: LocalHub) -> Hub:
    hub.add_token("hf_writer_3333", "alice", "write")
    made = Hub(hub.url, "hf_writer_3333")
    made.create(REPO, private=True)
    return made


def outgoing(folder: Path, number: int, suffix: str = "safetensors") -> Outgoing:
    path = folder / f"{number}.{suffix}"
    path.write_bytes(b"%06d" % number * 2000)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Outgoing(f"layer_{number}/{path.name}", path, path.stat().st_size, sha256)


def is_open(folder: Path) -> list[str]:
    """Files of the folder that this process holds open."""
    links = map(os.path.realpath, Path("/proc/self/fd").iterdir())
    return [link for link in links if link.startswith(str(folder))]


def test_hundreds_of_files_of_one_commit_are_not_open_at_once(
    ours: Hub, hub: LocalHub, tmp_path: Path
) -> None:
    files = [outgoing(tmp_path, number, "safetensors" if number % 100 else "json")
             for number in range(1, 301)]  # fmt: skip
    with Shipment(ours, REPO, files, as_pull_request=False) as shipment:
        shipment.prepare()
        assert not is_open(tmp_path)
        shipment.send(0)
        assert not is_open(tmp_path)
        for number in range(len(files)):
            shipment.send(number)
        shipment.commit("Many", "", hub.repo(REPO).sha)
        assert not is_open(tmp_path)
    assert len(hub.repo(REPO).head.files) == 301
    # 256 of the large files' questions, then the rest; one more for each that is sent.
    assert len(hub.log.requests("/preupload/", method="POST")) == 2
    assert len(hub.log.requests("/objects/batch", method="POST")) == 2 + 297


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_a_file_that_changed_on_the_disk_does_not_arrive(
    ours: Hub, hub: LocalHub, tmp_path: Path, suffix: str
) -> None:
    file = outgoing(tmp_path, 1, suffix)
    body = bytearray((tmp_path / f"1.{suffix}").read_bytes())
    body[100] ^= 1
    (tmp_path / f"1.{suffix}").write_bytes(body)
    before = hub.repo(REPO).sha
    with Shipment(ours, REPO, [file], as_pull_request=False) as shipment:
        shipment.prepare()
        with pytest.raises(DataMissing, match=f"layer_1/1.{suffix}"):
            shipment.send(0)
            shipment.commit("It", "", before)
    assert hub.repo(REPO).sha == before
    assert file.sha256 not in hub.repo(REPO).objects
