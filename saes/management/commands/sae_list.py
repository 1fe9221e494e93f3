"""`manage.py sae_list`: the SAEs of the library, filtered and sorted as on its page."""

import argparse
from typing import Any

from saes import answers, queries
from saes.management.arguments import line, whole
from saes.management.base import SaeCommand
from saes.management.tables import counted, cut, table
from saes.models import Sae
from saes.templatetags.values import filesize

HEAD = ("id", "status", "name", "model", ">layer", ">width", "format", ">size", "repository")


class Command(SaeCommand):
    help = "List the SAEs of the library."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--search", type=line, default="", help="in names, texts and places")
        parser.add_argument("--source", choices=Sae.Source.values, default="")
        parser.add_argument("--status", choices=Sae.Status.values, default="")
        parser.add_argument("--model", type=line, default="", help="or a part of its name")
        parser.add_argument("--format", type=line, default="", help="`sae_formats` lists them")
        parser.add_argument("--layer", type=whole(0, 10_000))
        parser.add_argument("--sort", choices=queries.SORTS, default="newest")
        parser.add_argument("--limit", type=whole(1, 1000), default=50)
        parser.add_argument("--skip", type=whole(0, 10**7), default=0)

    def work(self, options: dict[str, Any]) -> None:
        same = ("search", "source", "status", "format", "layer")
        filters = queries.Filters(
            **{name: options[name] for name in same}, model_name_part=options["model"]
        )
        # What is told in JSON is all of a row; a table needs less.
        found = queries.narrowed(filters) if self.in_json else queries.matching(filters)
        skip, limit, total = options["skip"], options["limit"], found.count()
        page = list(found.order_by(*queries.SORTS[options["sort"]])[skip : skip + limit])
        if self.in_json:
            self.print_json(answers.page([answers.of_sae(sae) for sae in page], skip, limit, total))
            return
        if page:
            self.say(table(HEAD, map(_cells, page)))
        more = f" `--skip {skip + limit}` shows more." if skip + limit < total else ""
        self.note(f"{len(page)} of {counted(total, 'SAE')}.{more}")


def _cells(sae: Sae) -> tuple[object, ...]:
    place = f"{sae.hf_repo_id}/{sae.hf_filepath}".removesuffix("/.").strip("/")
    size = filesize(sae.file_size_bytes) if sae.file_size_bytes else None
    return (
        sae.id, sae.status, cut(sae.name, 48), cut(sae.model_name, 32), sae.layer, sae.d_sae,
        sae.format, size, place,
    )  # fmt: skip
