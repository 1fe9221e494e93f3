"""How bringing in many SAEs went, in a sentence for the next page."""

from saes.batches import Brought


def said_of(brought: Brought) -> str:
    begun, here = len(brought.jobs), len(brought.here)
    told = (
        f"{begun:,} SAE{'s are' if begun > 1 else ' is'} on {'their' if begun > 1 else 'its'} way."
    )
    if here:
        told += f" {here:,} of those you chose {'were' if here > 1 else 'was'} here already."
    return told
