"""A hub with one large repository, in a process of its own: its work is not the preview's."""

from multiprocessing.connection import Connection

from tests.hub import Hollow, LocalHub


def serve_50000_files(pipe: Connection) -> None:
    blob, bases = (
        Hollow(1000, listing_only=True),
        ("params.npz", "a.json", "b.bin", "c.txt", "d.md"),
    )
    folders = [f"layer_{n % 40}/width_{16 + n}k/average_l0_{n}" for n in range(10_000)]
    with LocalHub() as hub:
        hub.add_repo("a/large", {f"{folder}/{base}": blob for folder in folders for base in bases})
        hub.repo("a/large").head.listing("", recursive=True)
        pipe.send(hub.url)
        pipe.recv()
