"""A rehearsal as lines of a terminal."""

import json
from collections.abc import Iterator

from saes.management.tables import counted, plain, table
from saes.parcels import PASSPORT
from saes.rehearsal import Action, Rehearsal
from saes.templatetags.values import filesize

HEAD = ("file", "", ">size", ">replaces")


def lines_of(told: Rehearsal) -> Iterator[str]:
    yield f"To {told.wish.repo_id} as {plain(told.account)}: {_visibility(told)}."
    yield f"The token: {plain(told.token_rights)}"
    what = "a pull request" if told.wish.as_pull_request else "one commit"
    yield f"{counted(len(told.changes), 'file')} in {what}: {plain(told.wish.title)}"
    yield table(HEAD, ((it.name, _WORDS[it.action], _size(it.size), _size(it.was))
                       for it in told.changes))  # fmt: skip
    if told.unmade:
        yield f"{counted(told.unmade, 'SAE')} will be converted to the SAELens form first."
    for warning in told.warnings:
        yield f"Warning: {plain(warning)}"
    for problem in told.refusals:
        yield f"Problem: {plain(str(problem))} {plain(problem.next_step)}"
    if told.nothing_to_do:
        yield "Everything is there already."


def passports_of(told: Rehearsal) -> Iterator[str]:
    """Each under its name, as far as it is known before its SAE is converted."""
    for folder, passport in told.passports.items():
        yield f"\n{folder}/{PASSPORT}"
        yield from map(plain, json.dumps(passport, indent=2, ensure_ascii=False).splitlines())


_WORDS = {
    Action.NEW: "new",
    Action.CHANGED: "changed",
    Action.IDENTICAL: "identical",
    Action.COMPARED: "compared once it is made",
}


def _size(size: int | None) -> str | None:
    return None if size is None else filesize(size)


def _visibility(told: Rehearsal) -> str:
    seen = "public" if told.public else "private"
    if told.creates:
        return f"a new repository, {seen}"
    if told.makes_public:
        return "which is private, and becomes public"
    return f"which is {seen}"
