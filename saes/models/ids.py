"""Public ids: what they hold, and the names that addresses and answers use for them."""

import secrets


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(6)}"


def new_sae_id() -> str:
    return new_id("sae")


def new_job_id() -> str:
    return new_id("job")


def new_batch_id() -> str:
    return new_id("batch")


def new_training_id() -> str:
    return new_id("train")


def new_upload_id() -> str:
    return new_id("up")


def new_publication_id() -> str:
    return new_id("pub")
