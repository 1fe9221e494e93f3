"""The admin of training runs: the one kind of row that people write by hand."""

import os
from pathlib import Path
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.validators import RegexValidator
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from saes.admin.filters import CommonValues
from saes.admin.rows import Rows
from saes.models import Sae, Training
from saes.models.ids import new_training_id
from saes.training_records import from_text
from saes.trainings import ID

OUTSIDE = (
    "This path is in none of the folders that training runs may lie in: MISTUDIO_TRAININGS_DIR "
    "and those of MISTUDIO_IMPORT_ROOTS. On this machine `manage.py sae_register_training` takes "
    "any folder."
)


class TrainingForm(forms.ModelForm):  # type: ignore[type-arg]
    """A path that is typed in a browser has to lie where imports are allowed from."""

    id = forms.CharField(
        max_length=64, initial=new_training_id,
        validators=[RegexValidator(rf"\A{ID.pattern}\Z", "Letters, digits, and . _ - only.")],
    )  # fmt: skip

    class Meta:
        model = Training
        fields = (
            "id", "name", "status", "directory", "model_name", "datasets", "hyperparameters",
            "current_step", "total_steps", "final_loss", "final_l0", "started_at", "completed_at",
        )  # fmt: skip

    def clean_directory(self) -> str:
        """Whoever may not see a folder is not told whether it exists."""
        typed = self.cleaned_data["directory"]
        if self.instance.pk and typed == self.initial.get("directory"):
            return str(typed)  # a command put it there
        for root in (settings.TRAININGS_DIR, *settings.IMPORT_ROOTS.values()):
            if (found := _inside(root, typed)) is not None:
                return str(found)
        raise forms.ValidationError(OUTSIDE)

    def clean_datasets(self) -> Any:
        return self._of_kind("datasets", list)

    def clean_hyperparameters(self) -> Any:
        return self._of_kind("hyperparameters", dict)

    def _of_kind(self, name: str, kind: type) -> Any:
        value = self.cleaned_data[name] or kind()
        if not isinstance(value, kind):
            word = "a list" if kind is list else "an object"
            raise forms.ValidationError(f"This has to be {word} in JSON.")
        if from_text(value) != value:
            raise forms.ValidationError("This holds a number or a letter that cannot be stored.")
        return value


def _inside(root: Path, typed: str) -> Path | None:
    """The path with its links followed, where that lies below `root`; else nothing."""
    wanted = Path(os.path.normpath(typed))
    if "\0" in typed or not any(wanted.is_relative_to(it) for it in (root, root.resolve())):
        return None  # the disk was not asked
    try:
        found = wanted.resolve()
    except (OSError, RuntimeError):
        return None
    return found if found != root.resolve() and found.is_relative_to(root.resolve()) else None


@admin.register(Training)
class TrainingAdmin(Rows):
    form = TrainingForm
    list_display = (
        "name", "id", "status", "model_name", "current_step", "total_steps", "final_loss",
        "final_l0", "imported", "created_at",
    )  # fmt: skip
    list_filter = ("status", ("model_name", CommonValues))
    list_defer: ClassVar[tuple[str, ...]] = ("hyperparameters", "datasets")
    search_fields = ("name", "id", "model_name", "directory")
    date_hierarchy = "created_at"
    readonly_fields = ("created_at",)
    fieldsets = (
        (None, {"fields": ("id", "name", "status", "directory")}),
        ("What was trained", {"fields": ("model_name", "datasets", "hyperparameters")}),
        ("How it went", {"fields": (
            "current_step", "total_steps", "final_loss", "final_l0", "started_at", "completed_at",
            "created_at",
        )}),
    )  # fmt: skip

    def light(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        saes = Sae.objects.only("training_id")
        return super().light(rows).prefetch_related(Prefetch("saes", saes, to_attr="held"))

    @admin.display(description="imported SAEs")
    def imported(self, training: Training) -> int:
        return len(getattr(training, "held", ()))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Another id would be another run: it is given once."""
        return ("id", *self.readonly_fields) if obj else self.readonly_fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def view_on_site(self, training: Training) -> str:
        return reverse("saes:training", args=[training.id])
