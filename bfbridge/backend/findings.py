"""Findings of checks of a file: what is wrong, where, and what to do.

The module of a backend may have a function ``validate(source, options)``, which yields a `Finding`
for everything in the structure of a file that breaks the specification of its format; and a
function ``find_identifying(source, options)``, which yields one for everything that is not known to
identify nobody. Without it, files of the format are no targets of `bfbridge.curation.deidentify`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final, Literal

__all__ = ["COPY_AGAIN", "Finding", "Severity", "limited"]

Severity = Literal["error", "warning", "note"]

COPY_AGAIN: Final = "Copy the file again from its source, or write it again."
"""Remedy for bytes that are missing or damaged."""
_MOST_ALIKE: Final = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check.

    Attributes
    ----------
    severity
        "error": the file breaks its specification, or pixels or metadata cannot be read. "warning":
        it breaks a recommendation, or programs may interpret it differently. "note": a remark on
        what was found, or could not be checked.
    code
        Name of the check, which does not change between releases ("tiff-offsets").
    where
        File and position in it.
    message
        What was found, and what is required.
    remedy
        What to do; may be empty for a note.
    """

    severity: Severity
    code: str
    where: str
    message: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding for JSON."""
        return asdict(self)


def limited(findings: Iterator[Finding], where: str, most: int = _MOST_ALIKE) -> Iterator[Finding]:
    """Yield findings, at most `most` with each code; a note counts the rest.

    Parameters
    ----------
    findings
        All findings.
    where
        The file, for the notes.
    most
        Findings with one code that are yielded.
    """
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.code] = counts.get(finding.code, 0) + 1
        if counts[finding.code] <= most:
            yield finding
    for code, count in counts.items():
        if count > most:
            yield Finding("note", code, where, f"{count - most:,} more of this kind are not listed")
