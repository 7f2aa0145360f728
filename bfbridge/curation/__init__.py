"""Curation of images: validation and labels.

Imports the reader, the writer and everything below them; imported by the command line.
"""

from __future__ import annotations

from bfbridge.backend.findings import Finding
from bfbridge.curation.labels import add_labels, labels_from_rois
from bfbridge.curation.validation import Validation, validate

__all__ = ["Finding", "Validation", "add_labels", "labels_from_rois", "validate"]
