"""Examines the data directory against the rows, and mends what does not agree.

Looking changes nothing. Mending looks again, holding the SAE: what a worker is at is left alone.
"""

from saes.doctor.finding import Examined, Finding, Kind, Outcome
from saes.doctor.looking import examine
from saes.doctor.mending import YOURS, repair

__all__ = ["YOURS", "Examined", "Finding", "Kind", "Outcome", "examine", "repair"]
