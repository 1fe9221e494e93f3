"""Addresses of the pages. Verbs are for POST only."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from saes.forms import SignInForm
from saes.views import (
    accounts,
    batches,
    exports,
    hub,
    hub_tokens,
    imports,
    jobs,
    library,
    publications,
    publish,
    storage,
    tokens,
    trainings,
    uploads,
)

pages = [
    path("", library.list_saes, name="list"),
    path("saes/<slug:sae_id>/", library.detail, name="detail"),
    path("saes/<slug:sae_id>/card/", library.card, name="card"),
    path("saes/<slug:sae_id>/edit/", library.edit, name="edit"),
    path("saes/<slug:sae_id>/facts/", library.facts, name="facts"),
    path("saes/<slug:sae_id>/cancel/", library.cancel, name="cancel"),
    path("saes/<slug:sae_id>/pause/", library.pause, name="pause"),
    path("saes/<slug:sae_id>/resume/", library.resume, name="resume"),
    path("saes/<slug:sae_id>/retry/", library.retry, name="retry"),
    path("saes/<slug:sae_id>/formats/", exports.formats, name="formats"),
    path("saes/<slug:sae_id>/prepare/", exports.prepare, name="prepare"),
    path("saes/<slug:sae_id>/remove-source/", storage.remove_source, name="remove-source"),
    path("saes/<slug:sae_id>/delete/", library.delete, name="delete"),
    path("jobs/", jobs.activity_page, name="jobs"),
    path("jobs/cancel-all/", jobs.ask_to_cancel, name="cancel-jobs"),
    path("jobs/steer/<slug:verb>/", jobs.steer, name="steer-jobs"),
    path("jobs/<slug:job_id>/row/", jobs.row, name="job-row"),
    path("hub/", hub.search, name="hub"),
    path("hub/download/", hub.download, name="download"),
    path("hub/forget-token/", hub.forget_token, name="forget-token"),
    path("hub/tokens/", hub_tokens.overview, name="hub-tokens"),
    path("hub/tokens/<int:hub_token_id>/test/", hub_tokens.test, name="test-hub-token"),
    path("hub/tokens/<int:hub_token_id>/usual/", hub_tokens.make_usual, name="usual-hub-token"),
    path("hub/tokens/<int:hub_token_id>/remove/", hub_tokens.remove, name="remove-hub-token"),
    path("hub/<str:owner>/<str:repo>/", hub.repo, name="repo"),
    path("hub/<str:owner>/<str:repo>/header/", hub.header, name="header"),
    path("hub/<str:owner>/<str:repo>/batch/", batches.bring_in, name="batch"),
    path("trainings/", trainings.list_trainings, name="trainings"),
    path("trainings/<str:training_id>/", trainings.training, name="training"),
    path("trainings/<str:training_id>/import/", trainings.bring_in, name="import-training"),
    path("import/", imports.folder, name="import"),
    path("import/start/", imports.start, name="start-import"),
    path("publish/", publish.publish, name="publish"),
    path("publish/rehearse/", publish.rehearse, name="rehearse"),
    path("publish/start/", publish.start, name="start-publishing"),
    path("publish/history/", publications.history, name="publications"),
    path("publish/<slug:publication_id>/", publications.publication, name="publication"),
    path("publish/<slug:publication_id>/live/", publications.live, name="publication-live"),
    path(
        "publish/<slug:publication_id>/steer/<slug:verb>/",
        publications.steer,
        name="steer-publication",
    ),
    path("demo/", imports.make_demo, name="demo"),
    path("import/uploads/", uploads.overview, name="uploads"),
    path("import/uploads/announce/", uploads.announce, name="announce-upload"),
    path("import/uploads/send/<str:ticket>/", uploads.send, name="send-upload"),
    path("import/uploads/<slug:upload_id>/", uploads.upload, name="upload"),
    path("import/uploads/<slug:upload_id>/piece/", uploads.piece, name="upload-piece"),
    path("import/uploads/<slug:upload_id>/import/", uploads.bring_in, name="import-upload"),
    path("import/uploads/<slug:upload_id>/discard/", uploads.discard, name="discard-upload"),
    path("storage/", storage.overview, name="storage"),
    path("storage/look/", storage.look, name="look"),
    path("storage/repair/", storage.repair, name="repair"),
    path("storage/verify/", storage.verify, name="verify-all"),
    path("storage/<str:name>/remove/", storage.remove_kept, name="remove-kept"),
    path("account/tokens/", tokens.overview, name="tokens"),
    path("account/tokens/<int:token_id>/revoke/", tokens.revoke, name="revoke-token"),
]

sign_in = LoginView.as_view(
    template_name="sign_in.html", authentication_form=SignInForm, redirect_authenticated_user=True
)
urlpatterns = [
    path("", include((pages, "saes"))),
    path("sign-in/", sign_in, name="sign-in"),
    path("sign-in/<str:signed>/", accounts.sign_in_link, name="sign-in-link"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
]
