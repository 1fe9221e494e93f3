"""A rehearsal as lines of a terminal."""

import json
from collections.abc import Iterator

from saes.management.tables import counted, plain, table
from saes.parcels import PASSPORT
from saes.rehearsal import Action, Rehearsal
from saes.templatetags.values import filesize

MOST_PASSPORTS = 3
HEAD = ("file", "", ">size", ">replaces")


def lines_of(told: Rehearsal) -> Iterator[str]:
    yield f"To {told.wish.repo_id} as {plain(told.account)}: {_visibility(told)}."
    yield f"The token: {plain(told.token_rights)}"
    what = "a pull request" if told.wish.as_pull_request else "one commit"
    yield f"{counted(len(told.changes), 'file')} in {what}: {plain(told.wish.title)}"
    yield table(HEAD, ((it.name, _WORDS[it.action], _size(it.size), _size(it.was))
                       for it in told.changes))  # fmt: skip
    for folder, passport in list(told.passports.items())[:MOST_PASSPORTS]:
        yield f"{folder}/{PASSPORT}: {plain(json.dumps(passport, ensure_ascii=False))}"
    if (more := len(told.passports) - MOST_PASSPORTS) > 0:
        yield f"And {counted(more, 'passport')} more: --json has all of them."
    if told.unmade:
        yield f"{counted(told.unmade, 'SAE')} will be converted to the SAELens form first."
    for warning in told.warnings:
        yield f"Warning: {plain(warning)}"
    for problem in told.refusals:
        yield f"Problem: {plain(str(problem))} {plain(problem.next_step)}"
    if told.nothing_to_do:
        yield "Everything is there already."


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
