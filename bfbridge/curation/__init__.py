"""Curation of images: validation, labels, de-identification, verification of conversions.

Imports the reader, the writer and everything below them; imported by the command line.
"""

from __future__ import annotations

from bfbridge.backend.findings import Finding
from bfbridge.curation.certificates import verify_crate
from bfbridge.curation.deidentification import (
    Deidentification,
    check_deidentified,
    deidentify,
    deidentify_many,
)
from bfbridge.curation.labels import add_labels, labels_from_rois
from bfbridge.curation.validation import Validation, validate

__all__ = [
    "Deidentification",
    "Finding",
    "Validation",
    "add_labels",
    "check_deidentified",
    "deidentify",
    "deidentify_many",
    "labels_from_rois",
    "validate",
    "verify_crate",
]
