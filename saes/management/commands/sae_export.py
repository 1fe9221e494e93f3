"""`manage.py sae_export SAE TARGET --to FORMAT`: a ready SAE as a folder of its own."""

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from saes import converter, services
from saes.bundles import ORIGINAL, WRITABLE
from saes.certificate import Certificate
from saes.errors import Conflict, DataMissing, NotReady
from saes.management.arguments import line
from saes.management.bar import Bar
from saes.management.base import SaeCommand
from saes.management.finding import sae_named
from saes.management.proof import in_words
from saes.models import Sae, SaeFile
from saes.progress import Stage
from saes.storage import sha256_of


class Command(SaeCommand):
    help = "Write a ready SAE of the library into a folder, and compare the result with it."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("sae", type=line, help="its id or its name")
        parser.add_argument("target", type=Path, help="an empty folder, or one to be made")
        parser.add_argument(
            "--to", required=True, choices=[*WRITABLE, ORIGINAL], metavar="FORMAT",
            help=f"one of {', '.join(WRITABLE)}; or {ORIGINAL}, the files as downloaded",
        )  # fmt: skip

    def work(self, options: dict[str, Any]) -> None:
        sae, target, to = sae_named(options["sae"]), options["target"], options["to"]
        if sae.status != Sae.Status.READY:
            raise NotReady(f"{sae.name} is not ready.")
        if to != ORIGINAL:
            converter.refuse_misfit(services.stored_info(sae), converter.writer(to))
        bar = Bar(self.stderr)
        try:
            with _new_folder(target):
                export = _copied if to == ORIGINAL else partial(_converted, to=to)
                paths, proof = export(sae, target, bar)
        finally:
            bar.close()
        for path in paths:
            self.say(str(path))
        self.say(in_words(proof) if proof else "Copied: every file has the hash it was kept with.")
        if self.in_json:
            told = {"sae_id": sae.id, "format": to, "paths": [str(path) for path in paths]}
            self.print_json({**told, "certificate": proof.to_json() if proof else None})


def _converted(sae: Sae, target: Path, bar: Bar, to: str) -> tuple[list[Path], Certificate | None]:
    done = converter.convert(services.library().native(sae.id), target, to, progress=bar)
    return done.paths, done.certificate


def _copied(sae: Sae, target: Path, bar: Bar) -> tuple[list[Path], None]:
    """Raises DataMissing where a file is not what was downloaded."""
    home, paths = services.library().home(sae.id), []
    for file in sae.files.filter(kind=SaeFile.Kind.SOURCE):
        bar.say(Stage.CONVERTING, f"Copying {file.path}")
        path = target / file.path.removeprefix("source/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(home / file.path, path)
        if sha256_of(path, partial(_tick, bar, file.size)) != file.sha256:
            raise DataMissing(f"`{file.path}` is not as it was downloaded.")
        paths.append(path)
    return paths, None


def _tick(bar: Bar, total: int, done: int) -> None:
    bar.advance(done, total)


@contextmanager
def _new_folder(target: Path) -> Iterator[None]:
    """Raises Conflict where something is there. Unless all goes well, Ctrl-C included, it is empty.

    Everything in it is ours then.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise Conflict(
            f"`{target}` is no empty folder.",
            solution="Name an empty folder, or one that is not there yet.",
        )
    made = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    whole = False
    try:
        yield
        whole = True
    finally:
        if not whole:
            _clear(target)
            if made:
                target.rmdir()


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
