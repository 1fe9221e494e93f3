"""Publishing by its pages, against a hub over real sockets: the form, the rehearsal, the word."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import signing
from django.test import Client

from saes import confirming, jobs, roles, vault
from saes.hub import Identity
from saes.models import HubToken, Job, Publication, Sae, Training
from tests.hub import LocalHub, faults
from tests.views.conftest import READER, TARGET, WRITER, asked, published, sealed, signed_in
from tests.views.people import somebody

pytestmark = pytest.mark.django_db(transaction=True)
HTMX = {"hx-request": "true"}


def rehearsed(client: Client, *saes: Sae, **more: Any) -> Any:
    return client.post("/publish/rehearse/", asked(*saes, **more))


def words(answer: Any) -> str:
    """What a page says, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


# --- choosing -------------------------------------------------------------------------------------


def test_what_can_be_published_is_offered(client: Client, whole_saes: list[Sae], sae: Sae) -> None:
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.ERROR)
    Sae.objects.filter(id=whole_saes[1].id).update(architecture="crosscoder")
    page = client.get("/publish/").content.decode()
    assert re.findall(r'name="sae" value="([^"]+)"', page) == [whole_saes[0].id]
    assert "No SAE matches" in client.get("/publish/?search=nowhere").content.decode()


def test_an_empty_library_says_how_to_begin(client: Client) -> None:
    assert "Nothing to publish yet" in client.get("/publish/").content.decode()


def test_the_form_names_a_folder_for_each(client: Client, whole_saes: list[Sae]) -> None:
    page = client.get("/publish/", {"sae": [it.id for it in whole_saes]}).content.decode()
    folders = re.findall(r'name="folder-\w+" value="([^"]+)"', page)
    assert folders == ["blocks.3.hook_resid_pre", "blocks.3.hook_resid_pre/width_32"]
    assert 'value="" selected>Choose one' in page  # no license is anybody's default


def test_all_that_was_imported_of_a_run_goes_at_once(client: Client, whole_saes: list[Sae]) -> None:
    run = Training.objects.create(id="train_0", name="a run", directory="/nowhere")
    assert "Publish all imported" not in client.get(f"/trainings/{run.id}/").content.decode()
    assert client.get(f"/publish/?training={run.id}").status_code == 404
    Sae.objects.update(training=run)
    assert f"/publish/?training={run.id}" in client.get(f"/trainings/{run.id}/").content.decode()
    page = client.get(f"/publish/?training={run.id}").content.decode()
    assert all(f'name="folder-{it.id}"' in page for it in whole_saes)


def test_what_is_not_there_is_said(client: Client, whole_sae: Sae) -> None:
    assert client.get("/publish/?sae=sae_000000000000").status_code == 404
    for nothing in ("training=nowhere", "training=%00", "publication=%00", "publication=x"):
        assert client.get(f"/publish/?{nothing}").status_code == 404
    assert client.get("/publish/?sae=%00").status_code == 422
    assert client.get("/publish/?" + "&".join(f"sae={n}" for n in range(1001))).status_code == 422
    assert client.post("/publish/rehearse/", {}).status_code == 422


def test_an_sae_without_a_saelens_form_has_no_button_and_says_why(
    client: Client, whole_sae: Sae
) -> None:
    assert f"/publish/?sae={whole_sae.id}" in client.get(f"/saes/{whole_sae.id}/").content.decode()
    Sae.objects.filter(id=whole_sae.id).update(status=Sae.Status.ERROR)
    assert "/publish/?sae=" not in client.get(f"/saes/{whole_sae.id}/").content.decode()
    assert "cannot be published" in words(client.get(f"/publish/?sae={whole_sae.id}"))


def test_what_is_ticked_stays_over_searches_and_pages(
    client: Client, whole_saes: list[Sae]
) -> None:
    first, second = whole_saes
    Sae.objects.filter(id=second.id).update(name="quite another name")
    chosen = {"sae": [first.id, second.id], "look": "1"}
    page = client.get("/publish/", {**chosen, "search": "quite another"}).content.decode()
    assert f'<input type="hidden" name="sae" value="{first.id}">' in page
    assert re.search(f'value="{second.id}" checked', page)
    assert "Continue with 2 selected" in page and "1 selected on other pages" in page
    form = client.get("/publish/", {"sae": [first.id, second.id], "go": "1"}).content.decode()
    assert f"/publish/?look=1&amp;sae={first.id}&amp;sae={second.id}" in form


def test_nothing_ticked_is_said(client: Client, whole_sae: Sae) -> None:
    answer = client.get("/publish/?go=1")
    assert 'role="alert"' in answer.content.decode() and "Choose at least one SAE." in words(answer)
    assert "Choose at least one" not in words(client.get("/publish/"))


def test_what_cannot_be_published_is_left_out_by_a_link(
    client: Client, whole_saes: list[Sae], writer: HubToken
) -> None:
    kept, temporal = whole_saes
    Sae.objects.filter(id=temporal.id).update(architecture="temporal")
    for answer in (
        client.get("/publish/", {"sae": [kept.id, temporal.id]}),
        rehearsed(client, kept, temporal),
    ):
        page = answer.content.decode()
        assert f'/publish/?sae={kept.id}&amp;">Leave it out' in page
        assert "1 of these SAEs cannot be published" in words(answer)
        assert words(answer).count("has no place for it") == 1


def test_sizes_are_of_what_is_sent(client: Client, whole_sae: Sae) -> None:
    Sae.objects.filter(id=whole_sae.id).update(file_size_bytes=123_456_789)
    for path in ("/publish/", f"/publish/?sae={whole_sae.id}"):
        assert "123" not in words(client.get(path)).replace(whole_sae.id, "")


# --- the form -------------------------------------------------------------------------------------


def test_each_mistake_is_a_link_to_its_field(client: Client, whole_sae: Sae) -> None:
    data = asked(whole_sae, secret=WRITER, license="")
    data[f"folder-{whole_sae.id}"] = "../up"
    page = client.post("/publish/rehearse/", data).content.decode()
    for field in ("license", f"folder-{whole_sae.id}"):
        assert f'<a href="#id_{field}">' in page and f'id="id_{field}"' in page


def test_the_token_that_may_write_is_chosen_first(
    client: Client, owner: User, whole_sae: Sae
) -> None:
    writes = vault.keep(owner, WRITER, "writes")
    reads = vault.keep(owner, READER, "reads")
    for row, role in ((writes, "write"), (reads, "read")):
        HubToken.objects.filter(pk=row.pk).update(identity=Identity("alice", role).to_json())
    page = client.get(f"/publish/?sae={whole_sae.id}").content.decode()
    assert re.search(rf'name="token" value="{writes.pk}" checked', page)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"repo": "no name at all"}, "owner/name"), ({"license": ""}, "Choose the terms"),
     ({"folder": "../up"}, "cannot be a folder"), ({"folder": ""}, "Name a folder"),
     ({"folder": ".git"}, "git itself"), ({"which": "99999"}, "Choose a token."),
     ({"secret": "two words"}, "A token has no spaces")],
    ids=lambda it: str(it)[:30],
)  # fmt: skip
def test_a_mistake_keeps_what_was_typed_but_no_token(
    client: Client, whole_sae: Sae, wrong: dict[str, str], says: str
) -> None:
    given: dict[str, Any] = {"secret": WRITER, "message": "What I typed", **wrong}
    if "folder" in given:
        given[f"folder-{whole_sae.id}"] = given.pop("folder")
    data = asked(whole_sae, **given)
    data["token"] = given.get("which", "once")
    answer = client.post("/publish/rehearse/", data)
    page = answer.content.decode()
    assert answer.status_code == 422 and says in words(answer)
    assert 'value="What I typed"' in page and given["secret"] not in page
    assert not HubToken.objects.exists()


def test_two_saes_cannot_go_to_one_folder(
    client: Client, whole_saes: list[Sae], writer: HubToken
) -> None:
    same = {f"folder-{it.id}": name for it, name in zip(whole_saes, ("a/B", "A/b"), strict=True)}
    answer = rehearsed(client, *whole_saes, token=writer, **same)
    assert answer.status_code == 422 and "Another SAE goes to this folder" in words(answer)


def test_without_a_token_one_is_asked_for(client: Client, whole_sae: Sae) -> None:
    answer = rehearsed(client, whole_sae)
    assert answer.status_code == 422 and "Type a token" in words(answer)


def test_htmx_gets_the_part_and_takes_in_mistakes(client: Client, whole_sae: Sae) -> None:
    answer = client.post("/publish/rehearse/", asked(whole_sae, repo=""), headers=HTMX)
    assert answer.status_code == 422
    assert answer.content.decode().lstrip().startswith('<div id="publish">')


def test_a_hub_that_is_away_leaves_the_form_as_it_was(
    client: Client, whole_sae: Sae, writer: HubToken, hub: LocalHub
) -> None:
    hub.faults.add("/whoami", faults.status(503), times=None)
    answer = rehearsed(client, whole_sae, token=writer)
    assert answer.status_code >= 500 and f'value="{TARGET}"' in answer.content.decode()
    assert "/publish/start/" not in answer.content.decode()


# --- the rehearsal --------------------------------------------------------------------------------


def test_it_shows_where_to_as_whom_and_every_file(
    client: Client, whole_saes: list[Sae], writer: HubToken, hub: LocalHub
) -> None:
    told = rehearsed(client, *whole_saes, token=writer)
    said = words(told)
    for it in ("alice", TARGET, "The new repository is private", "Publish 2 SAEs", "7 new",
               "2 SAEs are converted", "layer_0/", "layer_1/", "sae_passport.json", "README.md",
               "library_name"):  # fmt: skip
        assert it in said, it
    assert not hub.repos.get("model", TARGET) and not Publication.objects.exists()


def test_new_changed_and_identical_files_are_told_apart(
    client: Client, whole_sae: Sae, writer: HubToken, hub: LocalHub
) -> None:
    run(published(client, whole_sae, token=writer))
    assert "Everything is there already" in words(rehearsed(client, whole_sae, token=writer))
    hub.commit(TARGET, {"layer_0/cfg.json": b"{}", "layer_0/sae_passport.json": None})
    said = words(rehearsed(client, whole_sae, token=writer))
    assert "1 new" in said and "1 changed" in said and "2 identical" in said
    assert re.search(r"cfg\.json Changed [\d,]+ \w?B 2 B", said)


def test_a_token_that_only_reads_has_no_button_and_a_reason(
    client: Client, whole_sae: Sae, owner: User, hub: LocalHub
) -> None:
    answer = rehearsed(client, whole_sae, token=vault.keep(owner, READER))
    assert "can only read" in words(answer) and "Use another token" in words(answer)
    assert "/publish/start/" not in answer.content.decode()


def test_a_license_that_is_not_said_is_warned_of(
    client: Client, whole_sae: Sae, writer: HubToken, hub: LocalHub
) -> None:
    hub.add_repo(TARGET, {"README.md": b"# Mine"}, private=True)
    assert "No license is named" in words(
        rehearsed(client, whole_sae, token=writer, license="keep")
    )


HOSTILE = b"""---
license: mit
---
# <script>alert(1)</script> mine

[run](javascript:alert(1)) [data](data:text/html,x) ![spy](https://evil.example/spy.png)
<img src=x onerror=alert(1)> <b>bold</b> [paper](https://arxiv.org/abs/1) <javascript:alert(1)>

| a | b |
|---|--:|
| <i onclick=x> | 2 |
"""


def test_a_card_of_others_is_shown_without_trust_and_only_our_part_changes(
    client: Client, whole_sae: Sae, writer: HubToken, hub: LocalHub
) -> None:
    hub.add_repo(TARGET, {"README.md": HOSTILE}, private=True)
    page = rehearsed(client, whole_sae, token=writer).content.decode()
    shown = page.partition('class="readme"')[2].partition("</section>")[0]
    tags = set(re.findall(r"<(\w+)", shown))
    assert not tags & {"script", "img", "i", "b", "iframe", "style", "form", "input"}
    assert set(re.findall(r'href="([^"#]+)', shown)) - {"/static/icons.svg"} == {
        "https://arxiv.org/abs/1"
    }
    assert not re.search(r"<\w+[^>]* (on\w+|style)=", page)
    assert re.search(r"<h3>&lt;script&gt;", shown)  # below the page's own headings
    dropped = re.findall(r"<del>(.*?)</del>", page)
    assert dropped == [] and "<ins>&lt;!-- mistudio:begin --&gt;</ins>" in page


# --- the word -------------------------------------------------------------------------------------


def run(job: Job) -> Publication:
    jobs.run(job.id)
    row = Publication.objects.get(jobs=job)
    assert row.verified_at, row.jobs.get(id=job.id).error_message
    return row


def test_several_go_up_in_one_commit(
    client: Client, whole_saes: list[Sae], writer: HubToken, hub: LocalHub
) -> None:
    row = run(published(client, *whole_saes, token=writer, message="Both of them"))
    assert hub.repo(TARGET).private and hub.repo(TARGET).sha == row.commit
    assert [it.title for it in hub.repo(TARGET).commits.values()][1:] == ["Both of them"]
    assert {it.folder for it in row.saes.all()} == {"layer_0", "layer_1"}


@pytest.mark.parametrize("typed", ["", "alice/publishe", "yes"])
def test_what_everybody_will_see_needs_the_name_typed(
    client: Client, whole_sae: Sae, writer: HubToken, typed: str
) -> None:
    told = rehearsed(client, whole_sae, token=writer, visibility="public")
    assert "Everybody will be able to see this" in words(told)
    answer = client.post("/publish/start/", {"rehearsed": sealed(told), "typed": typed})
    assert answer.status_code == 422 and "Nothing was published" in words(answer)
    assert not Publication.objects.exists()
    again = client.post("/publish/start/", {"rehearsed": sealed(answer), "typed": TARGET})
    assert again.status_code == 302 and Publication.objects.get().public


def test_a_private_repository_is_made_public_only_by_its_name(
    client: Client, whole_sae: Sae, writer: HubToken, hub: LocalHub
) -> None:
    hub.add_repo(TARGET, {"README.md": b"# x"}, private=True)
    told = rehearsed(client, whole_sae, token=writer, visibility="public")
    assert "is private now, and becomes public" in words(told)
    job = published(client, whole_sae, token=writer, visibility="public", typed=TARGET)
    run(job)
    assert not hub.repo(TARGET).private


def test_what_moved_since_is_told_and_rehearsed_again(
    client: Client, whole_sae: Sae, writer: HubToken, hub: LocalHub
) -> None:
    hub.add_repo(TARGET, {"README.md": b"# x"}, private=True)
    told = rehearsed(client, whole_sae, token=writer)
    hub.commit(TARGET, {"layer_0/cfg.json": b"{}"})
    answer = client.post("/publish/start/", {"rehearsed": sealed(told)})
    said = words(answer)
    assert answer.status_code == 409 and "Nothing was published" in said
    assert "layer_0/cfg.json is another one in the repository now" in said
    assert not Publication.objects.exists()
    again = client.post("/publish/start/", {"rehearsed": sealed(answer)})
    assert again.status_code == 302


def test_what_became_public_meanwhile_is_not_published_without_its_name(
    client: Client, whole_sae: Sae, writer: HubToken, hub: LocalHub
) -> None:
    hub.add_repo(TARGET, {"README.md": b"# x"}, private=True)
    told = rehearsed(client, whole_sae, token=writer)
    hub.repo(TARGET).private = False
    answer = client.post("/publish/start/", {"rehearsed": sealed(told)})
    assert answer.status_code == 409 and f"{TARGET} is public now" in words(answer)
    assert not Publication.objects.exists()


def test_a_seal_is_good_for_its_user_unaltered_and_for_an_hour(
    client: Client, whole_sae: Sae, writer: HubToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = sealed(rehearsed(client, whole_sae, token=writer))
    other = signed_in(somebody("other", roles.EDITOR))
    assert other.post("/publish/start/", {"rehearsed": seal}).status_code == 422
    for altered in (seal[:-2], signing.dumps({"user": 1}), "", "x" * 5000):
        assert client.post("/publish/start/", {"rehearsed": altered}).status_code == 422
    monkeypatch.setattr(confirming, "GOOD_FOR", timedelta(0))
    answer = client.post("/publish/start/", {"rehearsed": seal})
    assert answer.status_code == 409 and "more than an hour" in words(answer)
    assert not Publication.objects.exists()


def test_another_job_at_work_on_it_is_said(
    client: Client, whole_sae: Sae, writer: HubToken
) -> None:
    seal = sealed(rehearsed(client, whole_sae, token=writer))
    Job.objects.create(kind=Job.Kind.EXPORT, sae=whole_sae)
    answer = client.post("/publish/start/", {"rehearsed": seal})
    assert answer.status_code == 409 and "Another job is at work" in words(answer)
    assert not Publication.objects.exists()


def test_an_sae_that_was_deleted_meanwhile_is_said(
    client: Client, whole_saes: list[Sae], writer: HubToken
) -> None:
    seal = sealed(rehearsed(client, *whole_saes, token=writer))
    whole_saes[1].delete()
    answer = client.post("/publish/start/", {"rehearsed": seal})
    assert answer.status_code == 404 and "deleted" in words(answer)


# --- a token for this one time --------------------------------------------------------------------


def test_it_is_typed_once_never_shown_and_gone_when_the_job_ends(
    client: Client, whole_sae: Sae
) -> None:
    told = rehearsed(client, whole_sae, secret=WRITER)
    kept = HubToken.objects.get()
    assert kept.for_one_job and WRITER not in told.content.decode()
    form = re.search(r'name="kept" value="([^"]+)"', told.content.decode())
    assert form
    told = rehearsed(client, whole_sae, kept=form[1], message="Another word")
    assert HubToken.objects.get() == kept and WRITER not in told.content.decode()
    answer = client.post("/publish/start/", {"rehearsed": sealed(told)})
    assert answer.status_code == 302
    job = Job.objects.get(kind=Job.Kind.PUBLISH)
    assert job.token == kept
    run(job)
    assert not HubToken.objects.exists()


def test_another_one_takes_the_place_of_the_first(client: Client, whole_sae: Sae) -> None:
    first = rehearsed(client, whole_sae, secret=READER)
    kept = re.search(r'name="kept" value="([^"]+)"', first.content.decode())
    assert kept and "can only read" in words(first)
    sealed(rehearsed(client, whole_sae, secret=WRITER, kept=kept[1]))
    assert HubToken.objects.count() == 1


def test_one_that_the_hub_does_not_know_is_not_kept(client: Client, whole_sae: Sae) -> None:
    answer = rehearsed(client, whole_sae, secret="hf_nobody_knows_it")
    assert answer.status_code == 401 and not HubToken.objects.exists()


def test_nobody_uses_that_of_somebody_else(client: Client, whole_sae: Sae) -> None:
    told = rehearsed(client, whole_sae, secret=WRITER)
    kept = re.search(r'name="kept" value="([^"]+)"', told.content.decode())
    other = signed_in(somebody("other", roles.EDITOR))
    answer = rehearsed(other, whole_sae, kept=kept[1] if kept else "")
    assert answer.status_code == 422 and "Type a token" in words(answer)
    assert rehearsed(other, whole_sae, token=HubToken.objects.get()).status_code == 422
    assert other.post("/publish/start/", {"rehearsed": sealed(told)}).status_code == 422


def test_a_stored_one_that_was_forgotten_meanwhile_is_said(
    client: Client, whole_sae: Sae, writer: HubToken
) -> None:
    seal = sealed(rehearsed(client, whole_sae, token=writer))
    writer.delete()
    answer = client.post("/publish/start/", {"rehearsed": seal})
    assert answer.status_code == 422 and "is gone" in words(answer)


# --- terms ----------------------------------------------------------------------------------------


def test_a_license_of_another_name_says_which_and_where(
    client: Client, whole_sae: Sae, writer: HubToken
) -> None:
    asked_for = {"license": "other", "token": writer}
    unsaid = rehearsed(client, whole_sae, **asked_for)
    assert unsaid.status_code == 422
    assert "Name it: plain letters" in words(unsaid) and "Say where it stands" in words(unsaid)
    told = rehearsed(
        client, whole_sae, **asked_for, license_name="lab-1.0", license_link="https://lab.example/l"
    )
    assert told.status_code == 200
    for line in ("license: other", "license_name: lab-1.0", "license_link: https://lab.example/l"):
        assert line in words(told)


def test_a_new_repository_needs_terms(client: Client, whole_sae: Sae, writer: HubToken) -> None:
    answer = rehearsed(client, whole_sae, license="keep", token=writer)
    assert answer.status_code == 422
    assert "A new repository says nothing yet: choose the terms." in words(answer)
