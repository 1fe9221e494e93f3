"""Somebody who uses a running miStudio over HTTP, without JavaScript."""

import re
from dataclasses import dataclass
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener


@dataclass
class Page:
    status: int
    url: str
    text: str


class Visitor:
    """Keeps cookies, follows redirects, and sends forms as a browser would."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.cookies = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> Page:
        return self._open(Request(self._url(path)))

    def post(self, path: str, data: dict[str, str], page: str = "/") -> Page:
        """Sends a form. Its CSRF token is taken from `page`, where a browser would have been."""
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(page).text)
        assert found, f"{page} shows no form"
        body = urlencode({"csrfmiddlewaretoken": found.group(1), **data}).encode()
        return self._open(Request(self._url(path), body, {"Origin": self.base}))

    def sign_in(self, link: str) -> "Visitor":
        assert self.post(link, {}, page=link).status == 200
        return self

    def _url(self, path: str) -> str:
        return path if "://" in path else self.base + path

    def _open(self, request: Request) -> Page:
        try:
            with self._opener.open(request, timeout=120) as answer:
                return Page(answer.status, answer.url, answer.read().decode())
        except HTTPError as error:
            with error:
                return Page(error.code, error.url or "", error.read().decode())
