"""Curation of images: validation, labels, lower levels, de-identification, certificates.

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
from bfbridge.curation.pyramids import add_pyramid
from bfbridge.curation.validation import Validation, validate

__all__ = [
    "Deidentification",
    "Finding",
    "Validation",
    "add_labels",
    "add_pyramid",
    "check_deidentified",
    "deidentify",
    "deidentify_many",
    "labels_from_rois",
    "validate",
    "verify_crate",
]
