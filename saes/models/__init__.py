"""The rows: SAEs and their files, the jobs that work on them, tokens and sign-in links."""

from saes.models.access import ApiToken, HubToken, KeptAnswer, SignInLink
from saes.models.library import Sae, SaeFile
from saes.models.work import LEASE_SECONDS, Job, JobQuerySet

__all__ = [
    "LEASE_SECONDS",
    "ApiToken",
    "HubToken",
    "Job",
    "JobQuerySet",
    "KeptAnswer",
    "Sae",
    "SaeFile",
    "SignInLink",
]
