"""What users type, checked at the edge and returned as the values that services take."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, UsernameField
from django.utils import timezone

from saes.activity import SHOWN
from saes.arrivals import DownloadRequest
from saes.errors import MissingFact, SaeError
from saes.hub import RepoRef
from saes.imports import Wish
from saes.models import ApiToken, Job, Sae
from saes.queries import SORTS


class SignInForm(AuthenticationForm):
    # Django's own only hints at the length, and the record of failures has 255 characters for it.
    username = UsernameField(
        max_length=150,
        widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "username"}),
    )


class RepoForm(forms.Form):
    """A repository to look at. `clean()` leaves a RepoRef in `cleaned_data["ref"]`."""

    repo = forms.CharField(
        label="Repository", max_length=500,
        widget=forms.TextInput(attrs={"placeholder": "google/gemma-scope-2b-pt-res"}),
        help_text="owner/name, or the address of its page on the Hub.",
    )  # fmt: skip
    revision = forms.CharField(
        label="Revision", required=False, max_length=200, help_text="Branch, tag or commit."
    )
    token = forms.CharField(
        label="Hub token", required=False, max_length=400, strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="For gated and private repositories. It is stored encrypted, for you alone.",
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if "repo" in data:
            try:
                data["ref"] = RepoRef.parse(data["repo"], data.get("revision", ""))
            except SaeError as error:
                self.add_error("repo", f"{error} {error.next_step}")
        return data

    def clean_token(self) -> str:
        return _hub_token(self.cleaned_data["token"])


def _hub_token(token: str) -> str:
    if not token.isascii() or any(not c.isprintable() or c.isspace() for c in token):
        raise forms.ValidationError("A token has no spaces and only plain letters and digits.")
    return token


class DownloadForm(forms.Form):
    """One SAE of a previewed repository, at the commit that the preview showed."""

    repo = forms.CharField(widget=forms.HiddenInput)
    repo_type = forms.ChoiceField(
        choices=[("model", "model"), ("dataset", "dataset")], widget=forms.HiddenInput
    )
    commit = forms.RegexField(r"^[0-9a-f]{40}\Z", widget=forms.HiddenInput)
    where = forms.CharField(max_length=500, widget=forms.HiddenInput)
    name = forms.CharField(required=False, max_length=200)
    model_name = forms.CharField(required=False, max_length=200)

    def clean_repo(self) -> str:
        try:
            return RepoRef.parse(self.cleaned_data["repo"]).id
        except SaeError as error:
            raise forms.ValidationError(str(error)) from error

    def to_request(self) -> DownloadRequest:
        data = self.cleaned_data
        ref = RepoRef(data["repo"], data["repo_type"], data["commit"])
        return DownloadRequest(ref, data["where"], data["name"], model_name=data["model_name"])


class BatchForm(forms.Form):
    """Many SAEs of a previewed repository: those that are named by `where`, or all that match."""

    repo_type = forms.ChoiceField(choices=[("model", "model"), ("dataset", "dataset")])
    commit = forms.RegexField(r"^[0-9a-f]{40}\Z")
    revision = forms.CharField(required=False, max_length=200)  # as it was named
    model_name = forms.CharField(required=False, max_length=200)
    every = forms.BooleanField(required=False)
    anyway = forms.BooleanField(required=False)


class ChosenForm(forms.Form):
    """SAEs of a folder or an upload to import: those named by `where`."""

    name = forms.CharField(required=False, max_length=200)
    model_name = forms.CharField(required=False, max_length=200)
    every = forms.BooleanField(required=False)


class ImportForm(forms.Form):
    """How the SAEs of a folder are brought in."""

    placement = forms.ChoiceField(
        label="The files", choices=Sae.Placement.choices, initial=Sae.Placement.COPY,
        widget=forms.RadioSelect,
    )  # fmt: skip
    name = forms.CharField(required=False, max_length=200)
    model_name = forms.CharField(required=False, max_length=200)

    def to_wish(self) -> Wish:
        data = self.cleaned_data
        return Wish(
            name=data["name"], model_name=data["model_name"],
            placement=Sae.Placement(data["placement"]),
        )  # fmt: skip


class EditForm(forms.ModelForm):  # type: ignore[type-arg]
    tags = forms.CharField(
        required=False, max_length=500, help_text="Separated by commas.",
        widget=forms.TextInput(attrs={"placeholder": "baseline, layer sweep"}),
    )  # fmt: skip

    class Meta:
        model = Sae
        fields = ("name", "description", "notes")
        widgets = {
            "description": forms.Textarea(attrs={"rows": 2}),
            "notes": forms.Textarea(attrs={"rows": 4}),
        }

    def clean_tags(self) -> list[str]:
        tags = [tag.strip()[:40] for tag in self.cleaned_data["tags"].split(",")]
        return list(dict.fromkeys(tag for tag in tags if tag))


class FactsForm(forms.Form):
    """Facts that a user states: those that are missing, or those that may be corrected."""

    def __init__(self, *args: Any, missing: list[MissingFact], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for fact in missing:
            self.fields[fact.name] = _field_for(fact)

    def given(self) -> dict[str, Any]:
        """Only what was filled in; services give it its type."""
        return {name: value for name, value in self.cleaned_data.items() if value != ""}


def _field_for(fact: MissingFact) -> forms.Field:
    if fact.readings:
        choices = [(value, f"{value} – {meaning}") for value, meaning in fact.readings.items()]
        return forms.ChoiceField(
            label=fact.name, help_text=fact.question, choices=choices, widget=forms.RadioSelect
        )
    return forms.CharField(label=fact.name, help_text=fact.question, max_length=200)


class DeleteForm(forms.Form):
    keep_files = forms.BooleanField(
        required=False, label="Keep the files",
        help_text="They move to the folder kept/ of the data directory.",
    )  # fmt: skip


class TokenForm(forms.Form):
    """A new token of the API: what it is for, what it may do, and for how long."""

    name = forms.CharField(label="Name", max_length=100)
    scope = forms.ChoiceField(
        label="It may", choices=ApiToken.Scope.choices, initial=ApiToken.Scope.READ,
        error_messages={"invalid_choice": "Choose what the token may do. Viewers' tokens read."},
    )  # fmt: skip
    lifetime = forms.ChoiceField(
        label="Expires", initial="90",
        choices=[("30", "in 30 days"), ("90", "in 90 days"), ("365", "in a year"), ("0", "never")],
    )  # fmt: skip

    def __init__(self, *args: Any, may_write: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not may_write:
            self.fields["scope"].choices = [(ApiToken.Scope.READ, "Read")]  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        return _token_name(self.cleaned_data["name"])

    def expires_at(self) -> datetime | None:
        days = int(self.cleaned_data["lifetime"])
        return timezone.now() + timedelta(days=days) if days else None


def _token_name(name: str) -> str:
    """Names are also shown on terminals: in one line, and without its commands."""
    if not name.isprintable():
        raise forms.ValidationError("A name has letters, digits, signs and spaces only.")
    return name


class HubTokenForm(forms.Form):
    """A token of the Hub for the vault. Nothing shows it again, also not after a mistake."""

    name = forms.CharField(label="Name", max_length=100)
    token = forms.CharField(label="Token", max_length=400)

    def clean_token(self) -> str:
        return _hub_token(self.cleaned_data["token"])

    def clean_name(self) -> str:
        name = _token_name(self.cleaned_data["name"])
        token = str(self.data.get("token", "")).strip()
        if "hf_" in name.lower() or (len(token) >= 8 and token in name):
            self.data = {**dict(self.data.items()), "name": ""}
            raise forms.ValidationError(
                "A name cannot look like a token: names are shown, and not encrypted."
            )
        return name


class ListForm(forms.Form):
    """Search, filters and sorting of the library. Unknown values are dropped, not errors."""

    search = forms.CharField(required=False, max_length=200)
    source = forms.ChoiceField(required=False, choices=[("", "Any source"), *Sae.Source.choices])
    status = forms.ChoiceField(required=False, choices=[("", "Any status"), *Sae.Status.choices])
    format = forms.CharField(required=False, max_length=40)
    model_name = forms.CharField(required=False, max_length=200)
    architecture = forms.CharField(required=False, max_length=40)
    layer = forms.IntegerField(required=False, min_value=0, max_value=10_000)
    sort = forms.ChoiceField(required=False, choices=[(name, name.title()) for name in SORTS])
    page = forms.IntegerField(required=False, min_value=1, max_value=10**6)


class ActivityForm(forms.Form):
    """Which jobs the page Activity shows. Unknown values are dropped, not errors."""

    state = forms.ChoiceField(required=False, choices=[(name, name.title()) for name in SHOWN])
    kind = forms.ChoiceField(required=False, choices=[("", "Any kind"), *Job.Kind.choices])
    batch = forms.CharField(required=False, max_length=32)
    page = forms.IntegerField(required=False, min_value=1, max_value=10**6)
