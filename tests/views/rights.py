"""The table of rights: each address and method, and what everybody gets for it."""

from dataclasses import dataclass, field
from typing import Any

REPO, WHERE = "someone/walked", "blocks.3.hook_resid_post"

# What somebody gets: READS changes nothing, CHANGES changes something, REFUSED does neither.
READS, CHANGES, REFUSED = "reads", "changes", "refused"
Rights = dict[str, str]


def rights(viewer: str, editor: str, other: str, admin: str) -> Rights:
    """Whoever has no role yet is a viewer."""
    return {
        "newcomer": viewer, "viewer": viewer, "editor": editor, "other": other, "admin": admin,
    }  # fmt: skip


READ = rights(READS, READS, READS, READS)
ASK = rights(REFUSED, READS, READS, READS)  # a question before a change
EDIT = rights(REFUSED, CHANGES, CHANGES, CHANGES)
ADMIN = rights(REFUSED, REFUSED, REFUSED, CHANGES)
OWN = rights(CHANGES, CHANGES, CHANGES, CHANGES)  # nobody else's, see below
# A job that `editor` started, and what it is at work on.
JOB = rights(REFUSED, CHANGES, REFUSED, CHANGES)
SEE_JOB = rights(REFUSED, READS, REFUSED, READS)
EACH = rights(REFUSED, CHANGES, READS, CHANGES)  # says of each one whether it went
# A token of `editor`, which is out of reach even for admins.
TOKEN = rights(REFUSED, CHANGES, REFUSED, REFUSED)
SEE_TOKEN = rights(REFUSED, READS, REFUSED, REFUSED)


@dataclass(frozen=True)
class Way:
    """One method of one address in one situation; `path` is as the URLconf writes it."""

    method: str
    path: str
    rights: Rights
    state: str = "ready"  # of the SAE that it is about
    data: dict[str, Any] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)  # more that stands in its path
    query: str = ""

    @property
    def id(self) -> str:
        more = "".join(f" {word}" for word in (*self.words.values(), *self.data))
        return f"{self.method} {self.path} {self.state}{more if self.words else ''}"


SAE, JOBS, TOKENS = "/saes/<slug:sae_id>/", "/api/v1/jobs/<job_id>", "/account/tokens/"
API_SAE, HUB_TOKEN = "/api/v1/saes/<sae_id>", "/hub/tokens/<int:hub_token_id>/"
NAMED = {"repo": REPO, "repo_type": "model", "where": WHERE, "commit": "<commit>"}
ASKED = {"repo_id": REPO, "filepath": WHERE}
TICKED = {"repo_type": "model", "commit": "<commit>", "where": [WHERE], "anyway": "1"}
SEVERAL = {"repo_id": REPO, "filepaths": [WHERE]}
RUN, RUN_SAE = "/trainings/<str:training_id>/", "checkpoints/checkpoint_5000/layer_3_residual"
FROM_FOLDER = {"path": "imports", "where": ["layer_1"], "placement": "copy"}
IDS = {"sae_ids": ["<sae_id>"]}
PUBLICATION = "/publish/<slug:publication_id>/"
PUBLISHED = {"sae": ["<sae_id>"], "repo": "anybody/published", "license": "mit", "create": "on",
             "token": "<hub_token>", "folder-<sae_id>": "layer_3"}  # fmt: skip
SENT = {"sae_id": "<sae_id>", "repo_id": "anybody/published", "filepath": "layer_3"}
UPLOADS, UPLOAD = "/import/uploads/", "/import/uploads/<slug:upload_id>/"
PUBLISHED_ID = "pub_00000000000a"  # what `editor` published, or tried to
COMING = "up_00000000000c"  # one that is not complete
FILES = {"files": [{"name": "x", "size": 1}]}
STEER = "/jobs/steer/<slug:verb>/"
ONE_JOB, ALL = {"job": "<job_id>"}, {"all": "1"}
THESE = {"job_ids": ["<job_id>"]}
# Each wish for many, and the state of an SAE whose job it changes.
STEERED = [
    ("pause", "busy"), ("cancel", "busy"), ("front", "busy"), ("resume", "paused"),
    ("retry", "failed"), ("clear", "failed"),
]  # fmt: skip
WALK = [
    Way("get", "/", READ),
    Way("get", SAE, READ),
    Way("get", SAE, READ, "busy"),
    Way("get", SAE + "card/", READ, "busy"),
    Way("post", SAE + "edit/", EDIT, data={"name": "renamed", "tags": ""}),
    Way("post", SAE + "facts/", EDIT, data={"model_name": "someone/model"}),
    Way("post", SAE + "cancel/", JOB, "busy"),
    Way("post", SAE + "cancel/", JOB, "paused"),
    Way("post", SAE + "pause/", JOB, "busy"),
    Way("post", SAE + "resume/", JOB, "paused"),
    Way("post", SAE + "retry/", EDIT, "failed"),
    Way("get", SAE + "formats/", READ),
    Way("post", SAE + "prepare/", EDIT, data={"format": "saelens"}),
    Way("get", SAE + "delete/", ASK),
    Way("get", SAE + "delete/", SEE_JOB, "busy"),
    Way("post", SAE + "delete/", EDIT),
    Way("post", SAE + "delete/", JOB, "busy"),
    Way("get", "/jobs/", READ, "busy"),
    Way("get", "/jobs/<slug:job_id>/row/", SEE_JOB, "busy"),
    Way("get", "/jobs/cancel-all/", ASK, "busy"),
    *(Way("post", STEER, EACH, state, ONE_JOB, {"verb": verb}) for verb, state in STEERED),
    *(Way("post", STEER, EACH, "busy", ALL, {"verb": verb}) for verb in ("pause", "cancel")),
    Way("get", "/hub/", READ),
    Way("post", "/hub/", OWN, data={"repo": REPO, "token": "hf_anybody_1234"}),
    Way("post", "/hub/download/", EDIT, data=NAMED),
    Way("post", "/hub/forget-token/", OWN),
    Way("get", "/hub/tokens/", READ),
    Way("post", "/hub/tokens/", OWN, data={"name": "mine", "token": "hf_anybody_1234"}),
    Way("post", HUB_TOKEN + "test/", TOKEN),
    Way("post", HUB_TOKEN + "usual/", TOKEN),
    Way("get", HUB_TOKEN + "remove/", SEE_TOKEN),
    Way("post", HUB_TOKEN + "remove/", TOKEN),
    Way("get", "/hub/<str:owner>/<str:repo>/", READ),
    Way("get", "/hub/<str:owner>/<str:repo>/header/", READ, data={"where": WHERE}),
    Way("post", "/hub/<str:owner>/<str:repo>/batch/", EDIT, data=TICKED),
    Way("get", "/trainings/", READ),
    Way("get", RUN, READ),
    Way("post", RUN + "import/", EDIT, data={"where": [RUN_SAE]}),
    Way("get", "/import/", ASK),
    Way("get", "/import/", ASK, data={"path": "imports"}),
    Way("post", "/import/start/", EDIT, data=FROM_FOLDER),
    Way("post", "/demo/", EDIT),
    Way("get", UPLOADS, READ),
    Way("post", UPLOADS + "announce/", EDIT, data=FILES),
    Way("post", UPLOADS + "send/<str:ticket>/", EDIT),
    Way("get", UPLOAD, SEE_JOB),
    Way("post", UPLOAD + "piece/", JOB, words={"upload_id": COMING}, query="?file=0&offset=0"),
    Way("post", UPLOAD + "import/", JOB, data={"every": "1"}),
    Way("post", UPLOAD + "discard/", JOB),
    Way("get", "/publish/", ASK),
    Way("get", "/publish/", ASK, data={"sae": "<sae_id>"}),
    Way("post", "/publish/rehearse/", ASK, data=PUBLISHED),
    Way("post", "/publish/start/", EDIT, data={"rehearsed": "<sealed>"}),
    Way("get", "/publish/history/", READ),
    Way("get", PUBLICATION, SEE_JOB),
    Way("get", PUBLICATION + "live/", SEE_JOB),
    Way("post", PUBLICATION + "steer/<slug:verb>/", JOB, words={"verb": "retry"}),
    Way("get", "/storage/", READ),
    Way("get", "/storage/look/", READ),
    Way("post", "/storage/repair/", EDIT, data={"kind": "orphan"}),
    Way("post", "/storage/repair/", ADMIN, data={"kind": "orphan", "delete_orphans": "on"}),
    Way("post", "/storage/verify/", EDIT),
    Way("post", SAE + "remove-source/", EDIT),
    Way("post", "/storage/<str:name>/remove/", EDIT),
    Way("get", TOKENS, READ),
    Way("post", TOKENS, OWN, data={"name": "mine", "scope": "read", "lifetime": "30"}),
    Way("get", TOKENS + "<int:token_id>/revoke/", SEE_TOKEN),
    Way("post", TOKENS + "<int:token_id>/revoke/", TOKEN),
    Way("get", "/api/v1/docs", READ),
    Way("get", "/api/v1/openapi.json", READ),
    Way("post", "/api/v1/saes/hf/preview", READ, data={"repo_id": REPO}),
    Way("post", "/api/v1/saes/download", EDIT, data=ASKED),
    Way("post", "/api/v1/saes/download/batch", EDIT, data=SEVERAL),
    Way("get", "/api/v1/trainings", READ),
    Way("get", "/api/v1/trainings/<training_id>", READ),
    Way("get", "/api/v1/saes/training/<training_id>/available", READ),
    Way("post", "/api/v1/saes/import/training", EDIT, data={"training_id": "<training_id>"}),
    Way("get", "/api/v1/saes/import/scan", ASK, data={"path": "imports"}),
    Way("post", "/api/v1/saes/import/file", EDIT, data={"file_path": "imports/layer_1"}),
    Way("post", "/api/v1/saes/import/folder", EDIT, data={"file_path": "imports", "all": True}),
    Way("get", "/api/v1/saes", READ),
    Way("get", API_SAE, READ),
    Way("patch", API_SAE, EDIT, data={"name": "renamed"}),
    Way("patch", API_SAE, EDIT, data={"facts": {"model_name": "someone/model"}}),
    Way("delete", API_SAE, EDIT),
    Way("delete", API_SAE, JOB, "busy"),
    Way("post", "/api/v1/saes/delete", EDIT, data=IDS),
    Way("post", "/api/v1/saes/delete", EACH, "busy", data=IDS),
    Way("get", API_SAE + "/files", READ),
    Way("get", "/api/v1/storage", READ),
    Way("get", API_SAE + "/download", READ),
    Way("get", API_SAE + "/features", READ),
    Way("post", API_SAE + "/convert", EDIT, data={"format": "saelens"}),
    Way("get", "/api/v1/jobs", READ, "busy"),
    Way("get", JOBS, SEE_JOB, "busy"),
    Way("post", JOBS + "/cancel", JOB, "busy"),
    Way("post", JOBS + "/pause", JOB, "busy"),
    Way("post", JOBS + "/resume", JOB, "paused"),
    Way("post", JOBS + "/retry", JOB, "failed"),
    Way("post", JOBS + "/front", JOB, "busy"),
    *(Way("post", f"/api/v1/jobs/{verb}", EACH, state, data=THESE) for verb, state in STEERED),
    Way("get", "/api/v1/hub-tokens", READ),
    Way("get", "/api/v1/batches/<batch_id>", SEE_JOB),
    Way("post", "/api/v1/saes/upload", ASK, data={**SENT, "dry_run": True}),
    Way("post", "/api/v1/saes/upload", EDIT, data={**SENT, "license": "mit"}),
    Way("get", "/api/v1/uploads", READ),
    Way("get", "/api/v1/uploads/<upload_id>", SEE_JOB, words={"upload_id": PUBLISHED_ID}),
]
