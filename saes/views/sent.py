"""Files of a form go to the data directory at once, so that a rename puts them in their place."""

import tempfile
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile
from django.core.files.uploadhandler import (
    FileUploadHandler,
    SkipFile,
    StopUpload,
    TemporaryFileUploadHandler,
)
from django.http import HttpRequest
from django.urls import reverse

from saes import services, uploads
from saes.errors import DataMissing


class Coming(TemporaryUploadedFile):
    """Django's own would lie where the system keeps such files, which may be memory."""

    def __init__(self, name: str) -> None:
        file = tempfile.NamedTemporaryFile(dir=uploads.coming())  # noqa: SIM115  closed by views
        UploadedFile.__init__(self, file, name)


class ToDataDirectory(TemporaryFileUploadHandler):
    """Takes files from the one form that may send any; whoever sends others does so in vain."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        if not is_own_form(self.request):
            raise SkipFile
        try:
            services.library().require_there(opening=True)
        except DataMissing as error:
            raise StopUpload from error
        FileUploadHandler.new_file(self, *args, **kwargs)
        self.file = Coming(self.file_name or "")


def is_form(path: str) -> bool:
    """Whether this is an address of the form, with a ticket that was given out."""
    return _holder_of(path) is not None


def is_own_form(request: HttpRequest | None) -> bool:
    """Whether it is, and the ticket was given to who sends it."""
    holder = _holder_of(request.path) if request else None
    return holder is not None and holder == getattr(request, "user", AnonymousUser()).pk


def _holder_of(path: str) -> int | None:
    start = f"{reverse('saes:uploads')}send/"
    if not path.startswith(start):
        return None
    return uploads.holder_of(path.removeprefix(start).rstrip("/"))
