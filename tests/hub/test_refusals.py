"""What the Hub refuses, in its own words, and whether it is asked again."""

from __future__ import annotations

import json

import pytest

from saes import errors
from saes.hub import Hub, RepoRef
from saes.patience import TRANSIENT
from tests.hub import LocalHub, faults, upload_faults
from tests.hub.faults import Action
from tests.hub.shipping import LARGE, REPO, TOKEN, our_client, ours, sent

__all__ = ["our_client", "ours"]
LIMIT = "Private repository storage limit reached, please upgrade your plan."


def refusal(code: int, message: str) -> Action:
    """As the Hub words it: in a header and in JSON."""
    text = json.dumps({"error": message})
    return upload_faults.refused(code, {"Content-Type": "application/json"}, text)


@pytest.mark.parametrize("at", ["/preupload/", "/commit/"])
@pytest.mark.parametrize(
    ("code", "kind", "ours_say"),
    [(403, errors.AccessDenied, f"This token may not write to {REPO}."),
     *((code, errors.CannotPublish, f"The Hub does not take this for {REPO} ({code}).")
       for code in (400, 413, 415, 422, 423, 451, 507))],
)  # fmt: skip
def test_a_refused_write_is_told_in_the_hubs_own_words_and_not_asked_again(
    ours: Hub, hub: LocalHub, at: str, code: int, kind: type[errors.SaeError], ours_say: str
) -> None:
    fault = hub.faults.add(at, refusal(code, LIMIT), times=None)
    with pytest.raises(kind) as refused:
        sent(ours, hub)
    assert str(refused.value) == f'{ours_say} The Hub says: "{LIMIT}"'
    assert not isinstance(refused.value, TRANSIENT)
    assert fault.hits == 1


def test_a_refusal_without_words_is_told_in_ours_alone(ours: Hub, hub: LocalHub) -> None:
    hub.faults.add("/commit/", upload_faults.refused(413))
    with pytest.raises(errors.CannotPublish) as refused:
        sent(ours, hub)
    assert str(refused.value) == f"The Hub does not take this for {REPO} (413)."


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"Not with {TOKEN}, nor hf_oauth_another", "Not with …, nor …"),
        ("a\n\tb\u202e\x1b[2Jc\ud800", "a b [2Jc"),
        (f"{TOKEN[:7]}\u200b{TOKEN[7:]}", f"… {TOKEN[7:]}"),
        ('No". It was published. "', "No'. It was published. '"),
        ("x" * 100_000, "x" * 299 + "…"),
        ("a" + " " * 4_990 + TOKEN, "a …"),
    ],
)
def test_the_hubs_words_are_one_short_line_without_our_token(
    ours: Hub, hub: LocalHub, said: str, shown: str
) -> None:
    hub.faults.add("/commit/", refusal(403, said))
    with pytest.raises(errors.AccessDenied) as refused:
        sent(ours, hub)
    assert str(refused.value) == f'This token may not write to {REPO}. The Hub says: "{shown}"'


@pytest.mark.parametrize("body", ["[]", "5", "null", '{"errors": 5}', '{"error": {"a": [1]}}', "{"])
@pytest.mark.parametrize("code", [400, 403, 422])
def test_a_refusal_of_no_known_shape_is_one_of_our_errors_too(
    ours: Hub, hub: LocalHub, code: int, body: str
) -> None:
    hub.faults.add("/commit/", upload_faults.refused(code, None, body))
    with pytest.raises(errors.SaeError) as refused:
        sent(ours, hub)
    assert not isinstance(refused.value, TRANSIENT)


def test_a_question_that_the_hub_refuses_is_not_asked_again(ours: Hub, hub: LocalHub) -> None:
    hub.faults.add("/api/models", faults.status(422, text="No such expansion"), times=None)
    with pytest.raises(errors.HubMisbehaved, match=r'\(422\)\. The Hub says: "No such expansion"'):
        ours.resolve(RepoRef(REPO))


@pytest.mark.parametrize("code", [408, 500])
def test_what_may_pass_is_asked_again(ours: Hub, hub: LocalHub, code: int) -> None:
    hub.faults.add("/commit/", upload_faults.refused(code), times=None)
    with pytest.raises(errors.HubUnreachable):
        sent(ours, hub)


def test_a_store_that_found_its_address_too_old_is_asked_again(ours: Hub, hub: LocalHub) -> None:
    hub.url_lifetime = -1
    with pytest.raises(errors.HubUnreachable, match=r"store of large files .* \(403\)"):
        sent(ours, hub, LARGE)
    hub.url_lifetime = 3600
    assert sent(ours, hub, LARGE).commit
