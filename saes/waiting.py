"""How long whoever was refused should wait: the header Retry-After, for pages and API alike."""

from math import ceil

from django.http.response import HttpResponseBase

from saes.errors import Busy, RateLimited, SaeError

UNKNOWN = 60.0  # the Hub does not always say
DATABASE = 5.0
LONGEST = 86_400.0  # whoever asks for more, or for a number without end, made a mistake


def tell_when(answer: HttpResponseBase, error: SaeError) -> None:
    """Every 429 and 503 says when to ask again, in whole seconds and never "at once"."""
    if isinstance(error, RateLimited):
        wait = UNKNOWN if error.retry_after is None else error.retry_after
    elif isinstance(error, Busy):
        wait = DATABASE
    else:
        return
    answer["Retry-After"] = str(max(1, ceil(min(wait, LONGEST))))
