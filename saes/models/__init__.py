"""The rows: SAEs, their files, what they come from, the jobs that work on them, and access."""

from saes.models.access import ApiToken, HubToken, KeptAnswer, SignInLink
from saes.models.library import (
    TRAINING,
    UPLOAD,
    WORTH_SHARING,
    DataDirectory,
    Sae,
    SaeFile,
    identity_of,
)
from saes.models.origins import Training, Upload
from saes.models.publishing import Publication, Published
from saes.models.work import LEASE_SECONDS, Batch, Job, JobQuerySet, last_turn

__all__ = [
    "LEASE_SECONDS",
    "TRAINING",
    "UPLOAD",
    "WORTH_SHARING",
    "ApiToken",
    "Batch",
    "DataDirectory",
    "HubToken",
    "Job",
    "JobQuerySet",
    "KeptAnswer",
    "Publication",
    "Published",
    "Sae",
    "SaeFile",
    "SignInLink",
    "Training",
    "Upload",
    "identity_of",
    "last_turn",
]
