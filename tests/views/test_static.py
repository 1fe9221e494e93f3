"""Static files: the large one also lies there compressed, and is sent so."""

import gzip
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

VENDOR = Path(settings.BASE_DIR) / "static" / "vendor"
STYLES = "tabler-1.6.1/tabler.min.css"


def test_the_compressed_styles_are_the_styles() -> None:
    assert gzip.decompress((VENDOR / f"{STYLES}.gz").read_bytes()) == (VENDOR / STYLES).read_bytes()


@pytest.mark.django_db  # a response that is closed looks at the connections
def test_styles_are_sent_compressed_to_whoever_takes_that() -> None:
    path = f"/static/vendor/{STYLES}"
    packed = Client().get(path, headers={"accept-encoding": "gzip"})
    plain = Client().get(path)
    assert packed["Content-Encoding"] == "gzip"
    assert int(packed["Content-Length"]) < int(plain["Content-Length"]) / 7
    for answer in (packed, plain):
        assert b"".join(answer.streaming_content)  # type: ignore[attr-defined]
        answer.close()
