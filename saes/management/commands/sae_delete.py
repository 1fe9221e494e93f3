"""`manage.py sae_delete SAE…`: remove SAEs from the library, each by itself."""

import argparse
import sys
from typing import Any

from saes import services, steering
from saes.errors import BadRequest, Cancelled, SaeError
from saes.management.arguments import line
from saes.management.base import Failed, SaeCommand
from saes.management.finding import sae_named
from saes.management.output import put
from saes.management.tables import counted, plain
from saes.models import Sae
from saes.templatetags.values import filesize


class Command(SaeCommand):
    help = "Delete SAEs: their rows, and their files unless --keep-files."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("saes", type=line, nargs="+", metavar="SAE", help="its id or its name")
        parser.add_argument("--keep-files", action="store_true", help="they move to kept/")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def work(self, options: dict[str, Any]) -> None:
        errors: dict[str, str] = {}
        found = self._found(options["saes"], errors)
        if found and not options["yes"]:
            self._ask(found, options["keep_files"])
        kept = self._delete(found, options["keep_files"], errors)
        message = f"{len(kept)} deleted" + (f", {len(errors)} failed." if errors else ".")
        told = {
            "deleted_count": len(kept), "failed_count": len(errors), "deleted_ids": list(kept),
            "failed_ids": list(errors), "errors": errors, "message": message,
            "kept_files": {sae_id: path for sae_id, path in kept.items() if path},
        }  # fmt: skip
        if errors:
            raise Failed("\n".join([message, *errors.values()]), told)
        if self.in_json:
            self.print_json(told)

    def _found(self, words: list[str], errors: dict[str, str]) -> list[Sae]:
        found: dict[str, Sae] = {}
        for word in words:
            try:
                sae = sae_named(word)
                found[sae.id] = sae
            except SaeError as error:
                errors[word] = "\n".join([f"{error} {error.next_step}", *self._choices(error)])
        return list(found.values())

    def _ask(self, found: list[Sae], keep_files: bool) -> None:
        """Raises Cancelled, and BadRequest where there is nobody to ask."""
        size = sum(services.bytes_on_disk(sae) for sae in found)
        freed = services.bytes_freed(*found)
        shared = f"; that frees {filesize(freed)}, others share the rest" if freed < size else ""
        what = plain(found[0].name) if len(found) == 1 else counted(len(found), "SAE")
        files = f"removes {filesize(size)}{shared}"
        if keep_files:
            files = f"keeps their files ({filesize(size)})"
        if not sys.stdin.isatty():
            raise BadRequest(
                f"Deleting {what} {files}, and there is no terminal to ask on.",
                solution="Add --yes if you mean it.",
            )
        put(self.stderr, f"Deleting {what} {files}. Go on? [y/N] ", ending="")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Cancelled("Nothing was deleted.", solution="Answer y to delete.")

    def _delete(self, found: list[Sae], keep_files: bool, errors: dict[str, str]) -> dict[str, str]:
        """Where the files of each are kept, or nothing, by id."""
        kept: dict[str, str] = {}
        for sae in found:
            sae_id, size = sae.id, f"{filesize(services.bytes_freed(sae))} freed"
            try:
                kept[sae_id] = steering.delete_sae(None, sae, keep_files=keep_files)
            except SaeError as error:
                errors[sae_id] = f"{sae_id}: {error} {error.next_step}"
                continue
            files = f"its files are in {kept[sae_id]}" if kept[sae_id] else size
            self.say(f"Deleted {sae_id} {plain(sae.name)}: {files}.")
        return kept
