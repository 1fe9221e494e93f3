"""What users type to publish SAEs: where to, under which terms, with whose token."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.utils.functional import cached_property

from saes import confirming, parcels, publications, vault
from saes.drafting import LICENSE_LINK, LICENSE_NAME, OTHER, Wish
from saes.errors import SaeError
from saes.hub import Identity, RepoRef
from saes.models import HubToken, Publication, Sae
from saes.rehearsal import LICENSES, LONGEST_FOLDER, LONGEST_LINK, refuse_folder

KEEP, ONCE = "keep", "once"  # the repository's own license; a token for this one time
VISIBILITIES = {"": None, "private": True, "public": False}


class PublishForm(forms.Form):
    """Where SAEs go, and how. Its folders are fields of their own: `folder-<id>`."""

    repo = forms.CharField(
        label="Repository",
        max_length=200,
        error_messages={"required": "Name the repository, such as alice/my-saes."},
    )
    license = forms.ChoiceField(
        choices=[("", "Choose one"), *LICENSES.items(), (KEEP, "Keep what the repository says")],
        error_messages={"required": "Choose the terms that others may use these SAEs under."},
    )
    license_name = forms.CharField(required=False, max_length=100)
    license_link = forms.CharField(required=False, max_length=LONGEST_LINK)
    visibility = forms.ChoiceField(
        required=False,
        choices=[("", "As it is"), ("private", "Private"), ("public", "Public")],
    )
    create = forms.BooleanField(required=False, initial=True)
    message = forms.CharField(required=False, max_length=200)
    as_pull_request = forms.BooleanField(required=False)
    token = forms.ChoiceField(
        error_messages=dict.fromkeys(("required", "invalid_choice"), "Choose a token.")
    )
    secret = forms.CharField(label="Hub token", required=False, max_length=400)
    kept = forms.CharField(required=False, max_length=500)

    def __init__(
        self, data: Mapping[str, Any] | None, *, user: User, saes: Sequence[Sae],
        initial: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(data, initial=dict(initial or {}))
        self.user, self.saes, self.stored = user, saes, vault.standing(user)
        choices = [(str(it.pk), str(it)) for it in self.stored]
        self.fields["token"].choices = [*choices, (ONCE, "")]  # type: ignore[attr-defined]
        self.fields["token"].initial = _first_that_writes(self.stored) or ONCE
        named = publications.wish_for(saes, "a/a").folders
        for sae in saes:
            self.fields[f"folder-{sae.id}"] = forms.CharField(
                max_length=LONGEST_FOLDER, initial=named[sae.id],
                error_messages={"required": "Name a folder."},
            )  # fmt: skip

    @property
    def rows(self) -> list[tuple[Sae, forms.BoundField, SaeError | None]]:
        """Each SAE, its folder, and why it cannot be published."""
        return [(sae, self[f"folder-{sae.id}"], self.refused.get(sae.id)) for sae in self.saes]

    @cached_property
    def refused(self) -> dict[str, SaeError]:
        return {sae.id: error for sae in self.saes if (error := _refusal(sae))}

    @property
    def mistakes(self) -> list[tuple[str, str]]:
        """The id of each field that is to be corrected, and what to call it."""
        folders = {f"folder-{sae.id}": f"Folder of {sae.name}" for sae in self.saes}
        return [
            (self[name].id_for_label, folders.get(name) or str(self[name].label))
            for name in self.errors if name in self.fields
        ]  # fmt: skip

    def refuse_token(self) -> None:
        """The Hub does not know the one that was typed."""
        if self.cleaned_data["token"] == ONCE:
            self.add_error("secret", "The Hub does not know this token.")

    @property
    def one_time(self) -> HubToken | None:
        """The token that was given for this one time before."""
        told = self.data.get("kept") if self.is_bound else ""
        return confirming.hidden(self.user, str(told)) if told else None

    def clean_repo(self) -> str:
        try:
            ref = RepoRef.parse(self.cleaned_data["repo"])
        except SaeError as error:
            raise forms.ValidationError(f"{error} {error.next_step}") from error
        if ref.type != "model":
            raise forms.ValidationError("This is a dataset; SAEs are published to models.")
        return ref.id

    def clean_secret(self) -> str:
        secret: str = self.cleaned_data["secret"]
        if not secret.isascii() or any(c.isspace() for c in secret):
            raise forms.ValidationError("A token has no spaces and only plain letters and digits.")
        return secret

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        self._clean_folders(data)
        self._clean_terms(data)
        wants_one = data.get("token") == ONCE and "secret" in data
        if wants_one and not data["secret"] and self.one_time is None:
            self.add_error("secret", "Type a token of the Hub that may write.")
        return data

    def _clean_terms(self, data: dict[str, Any]) -> None:
        """What is called `other` needs a name and a place to read it."""
        if data.get("license") != OTHER:
            return
        if not re.fullmatch(LICENSE_NAME, data.get("license_name", "")):
            self.add_error("license_name", "Name it: plain letters, digits, `.`, `_` and `-`.")
        if not re.fullmatch(LICENSE_LINK, data.get("license_link", "")):
            self.add_error("license_link", "Say where it stands: an address, or a file's name.")

    def _clean_folders(self, data: dict[str, Any]) -> None:
        taken: set[str] = set()
        for sae in self.saes:
            name = f"folder-{sae.id}"
            folder = data[name] = str(data.get(name, "")).strip("/")
            if name in self.errors:
                continue
            if not folder:
                self.add_error(name, "Name a folder.")
                continue
            try:
                refuse_folder(folder)
            except SaeError as error:
                self.add_error(name, f"{error} {error.next_step}")
            if folder.casefold() in taken:
                self.add_error(
                    name, "Another SAE goes to this folder (capitals make no difference)."
                )
            taken.add(folder.casefold())

    # --- what it means ---------------------------------------------------------------------------

    def to_wish(self) -> Wish:
        data = self.cleaned_data
        return publications.wish_for(
            self.saes, data["repo"], [data[f"folder-{sae.id}"] for sae in self.saes],
            license="" if data["license"] == KEEP else data["license"],
            license_name=data["license_name"], license_link=data["license_link"],
            private=VISIBILITIES[data["visibility"]], create=data["create"],
            message=data["message"], as_pull_request=data["as_pull_request"],
        )  # fmt: skip

    def token_row(self) -> HubToken:
        """The chosen one; of one that was typed the vault keeps what no job has yet for an hour."""
        data, before = self.cleaned_data, self.one_time
        if data["token"] != ONCE:
            return next(it for it in self.stored if str(it.pk) == data["token"])
        if before and not data["secret"]:
            return before
        if before:
            vault.wipe_unused(before)
        return vault.keep_for_one_job(self.user, data["secret"])


def _refusal(sae: Sae) -> SaeError | None:
    """Why it has no form that SAELens loads."""
    try:
        parcels.refuse(sae)
    except SaeError as error:
        return error
    return None


def _first_that_writes(stored: Sequence[HubToken]) -> str:
    """Where the Hub said of none that it may: the usual one."""
    writes = [it for it in stored if it.identity and Identity.from_json(it.identity).may_write]
    return str((writes or stored)[0].pk) if stored else ""


def filled_from(wish: Wish, token: HubToken, *, user: User, saes: Sequence[Sae]) -> PublishForm:
    """The form as it was when this was rehearsed."""
    seen = next(name for name, private in VISIBILITIES.items() if private is wish.private)
    data = {
        "repo": wish.repo_id, "license": wish.license or KEEP, "visibility": seen,
        "license_name": wish.license_name, "license_link": wish.license_link,
        "create": wish.create, "message": wish.message, "as_pull_request": wish.as_pull_request,
        **{f"folder-{sae.id}": wish.folders[sae.id] for sae in saes}, **token_data(token),
    }  # fmt: skip
    return PublishForm(data, user=user, saes=saes)


def as_before(row: Publication) -> dict[str, Any]:
    """What a form begins with where this is to be published anew; who may see it is asked again."""
    return {
        "repo": row.repo_id, "license": row.license or KEEP, "message": row.message,
        "license_name": row.license_name, "license_link": row.license_link,
        "as_pull_request": row.as_pull_request,
        **{f"folder-{it.sae_id}": it.folder for it in row.saes.all()},
    }  # fmt: skip


def token_data(token: HubToken) -> dict[str, str]:
    """How a form says which token it is, without the token."""
    if token.for_one_job:
        return {"token": ONCE, "kept": confirming.hide(token)}
    return {"token": str(token.pk), "kept": ""}
