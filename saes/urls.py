"""Addresses of the pages. Verbs are for POST only."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from saes.forms import SignInForm
from saes.views import accounts, exports, hub, library, storage, tokens

pages = [
    path("", library.list_saes, name="list"),
    path("saes/<slug:sae_id>/", library.detail, name="detail"),
    path("saes/<slug:sae_id>/card/", library.card, name="card"),
    path("saes/<slug:sae_id>/edit/", library.edit, name="edit"),
    path("saes/<slug:sae_id>/facts/", library.facts, name="facts"),
    path("saes/<slug:sae_id>/cancel/", library.cancel, name="cancel"),
    path("saes/<slug:sae_id>/retry/", library.retry, name="retry"),
    path("saes/<slug:sae_id>/formats/", exports.formats, name="formats"),
    path("saes/<slug:sae_id>/prepare/", exports.prepare, name="prepare"),
    path("saes/<slug:sae_id>/delete/", library.delete, name="delete"),
    path("hub/", hub.search, name="hub"),
    path("hub/download/", hub.download, name="download"),
    path("hub/forget-token/", hub.forget_token, name="forget-token"),
    path("hub/<str:owner>/<str:repo>/", hub.repo, name="repo"),
    path("hub/<str:owner>/<str:repo>/header/", hub.header, name="header"),
    path("storage/", storage.overview, name="storage"),
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
