"""What is downloaded, and by whom: repositories of a local hub, a program that speaks the API."""

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.apps import App
from tests.hub import LocalHub
from tests.jobs.made import made_sae

# d_in, d_sae, and of a hundred how many are so large: 0.3, 2, 8 and 42 MB.
SIZES = [(64, 512, 70), (256, 1024, 22), (512, 2048, 7), (1024, 5120, 1)]
IN_ONE_REPO = 10


@dataclass(frozen=True)
class Wanted:
    repo: str
    where: str
    commit: str
    files: dict[str, Path]


def fill(hub: LocalHub, count: int, folder: Path, dice: random.Random) -> list[Wanted]:
    """SAEs in repositories of ten. Some have the same weights as another one."""
    made: list[Wanted] = []
    for start in range(0, count, IN_ONE_REPO):
        files: dict[str, Path] = {}
        places = [f"layer_{n}" for n in range(start, min(count, start + IN_ONE_REPO))]
        for place in places:
            files |= _written(folder / place, place, dice)
        repo = hub.add_repo(f"soak/repo-{start // IN_ONE_REPO}", files)
        for place in places:
            own = {name: it for name, it in files.items() if name.startswith(f"{place}/")}
            made.append(Wanted(repo.id, place, repo.sha, own))
    return made


def _written(folder: Path, place: str, dice: random.Random) -> dict[str, Path]:
    (d_in, d_sae), *_ = dice.choices([it[:2] for it in SIZES], [it[2] for it in SIZES])
    seed = dice.randrange(5) if dice.random() < 0.2 else dice.randrange(10**6)
    folder.mkdir(parents=True)
    files = {}
    for name, body in made_sae(seed, d_in, d_sae).items():
        (folder / name).write_bytes(body)
        files[f"{place}/{name}"] = folder / name
    return files


class Program:
    """Asks again later where the product is just being killed."""

    def __init__(self, app: App, token: str) -> None:
        self._app, self._token = app, token

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The answer; None where there was none, or a refusal."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = Request(f"{self._app.url}/api/v1{path}", data, headers, method=method)
        with suppress(OSError, HTTPException, ValueError), urlopen(request, timeout=30) as answer:
            return json.load(answer)
        return None

    def ask(self, wanted: Wanted, *, named: bool) -> bool:
        """`named`: the commit; else whatever the main branch is."""
        body = {"repo_id": wanted.repo, "filepath": wanted.where}
        more = {"revision": wanted.commit} if named else {}
        return self("POST", "/saes/download", body | more) is not None


@contextmanager
def database(app: App) -> Iterator[sqlite3.Connection]:
    path = f"file:{app.data_dir}/mistudio.sqlite3?mode=ro"
    connection = sqlite3.connect(path, uri=True, timeout=30)
    connection.row_factory = sqlite3.Row
    try:
        yield connection
    finally:
        connection.close()


def rows(app: App, query: str) -> list[dict[str, Any]]:
    with database(app) as connection:
        return [dict(row) for row in connection.execute(query)]
