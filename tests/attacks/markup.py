"""What a browser makes of a page: its elements and attributes, and which of them would act."""

import functools
import re
from html.parser import HTMLParser
from urllib.parse import urlsplit

ACTIVE = {"iframe", "base", "object", "embed", "math", "foreignobject", "style", "template"}
LINKS = {"href", "src", "action", "formaction", "srcset", "poster", "data", "xlink:href", "ping",
         "hx-get", "hx-post", "hx-put", "hx-patch", "hx-delete", "ws-connect"}  # fmt: skip
SCHEME = re.compile(r"[\x00-\x20]*([a-z][a-z0-9+.\-\s]*):", re.IGNORECASE)

# Each is meant to leave where it is put: text, an attribute, a script, a title, JSON.
ATTACKS = [
    "<img src=//evil.example/x onerror=alert(1)>",
    "<svg onload=alert(1)><a xlink:href=javascript:alert(1)>x</a></svg>",
    '"><script>alert(1)</script>',
    "'><script src=//evil.example></script>",
    "</script><script>alert(1)</script>",
    "</title></textarea></select></template><blink>",
    "' onmouseover='alert(1)' x='",
    '" autofocus onfocus=alert(1) x="',
    "[x](javascript:alert(1)) ![x](https://evil.example/track.png)",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "<style>*{background:url(//evil.example)}</style><p style=color:red>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<base href=//evil.example/>",
    "</title><meta http-equiv=refresh content='0;url=//evil.example'>",
    "<a hx-get=/x hx-trigger=load>x</a>",
    '<div data-hx-post=/sign-out/ data-hx-trigger=load hx-on:click="alert(1)">',
    "\" hx-vals='js:{x:alert(1)}' hx-trigger=load x=\"",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<!--><img src=x onerror=alert(1)>-->",
    "{{ 7|add:7 }}{% now 'Y' %}${7*7}",
    "&lt;img src=x onerror=alert(1)&gt;",
    "+ADw-script+AD4-alert(1)",
]  # fmt: skip


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))


@functools.lru_cache(maxsize=8)  # a page is asked for its shape and for what would act
def elements(text: str) -> list[tuple[str, dict[str, str]]]:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader.elements


def shape(text: str) -> list[str]:
    """The elements and the names of their attributes, in order: without any value or text."""
    return [f"{tag} {' '.join(sorted(names))}" for tag, names in elements(text)]


def acting(text: str, home: str = "testserver") -> list[str]:
    """What of a page of ours would run a script, or leave for another server by itself."""
    found = []
    for tag, names in elements(text):
        wrong = [name for name, value in names.items() if _acts(tag, name, value, home)]
        inline = tag == "script" and "src" not in names and names.get("type") != "application/json"
        # Without JavaScript a page with a running job asks for itself again, and for nothing else.
        refresh = "http-equiv" in names and not names.get("content", "").isdigit()
        if wrong or inline or refresh or tag in ACTIVE:
            found.append(f"{tag} {names}")
    return found


def _acts(tag: str, name: str, value: str, home: str) -> bool:
    if name.removeprefix("data-").startswith(("on", "hx-on", "hx-vals", "hx-vars", "hx-include")):
        return True
    if name in ("style", "srcdoc") or name.startswith("data-hx-"):
        return True
    return name in LINKS and _leads_away(tag, value, home)


def _leads_away(tag: str, value: str, home: str) -> bool:
    """Links that somebody clicks may lead to the Hub; nothing else leaves this server."""
    scheme = SCHEME.match(value)
    if scheme and scheme[1].lower() not in ("http", "https"):
        return True
    host = urlsplit(value.strip().replace("\\", "/")).hostname
    if tag == "a" and host and "evil" not in host:
        return False
    return host not in (None, home)
