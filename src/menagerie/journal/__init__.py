"""Predictions, feedback, pointers, verdicts and decisions: kept before they are acknowledged.

journal.py     the door: `Journal`
writer.py      predictions go to the database, else to the spool        spool.py    lines on the local disk
database.py    transactions         engine.py      pragmas, pool        backoff.py  when to try again (pure)
schema.py      tables               migrations.py  their versions       codec.py    a prediction as row and as line
predictions.py feedback.py queries.py windows.py series.py variants.py pointers.py reasons.py trace.py  what is asked
               of the tables
labels.py      which label counts (pure)                                quarantine.py  whose voices do not
"""

from menagerie.journal.engine import make_folder
from menagerie.journal.journal import Journal
from menagerie.journal.labels import Labelled, label_that_counts
from menagerie.journal.quarantine import Limits, Quarantined
from menagerie.settings import get_settings

__all__ = ["Journal", "Labelled", "label_that_counts", "open_journal", "quarantined", "set_aside"]


def open_journal() -> Journal:
    """The journal that the settings name; its spool is the folder `spool` of their home.

    Raises:
        ConfigurationError: the journal's URL cannot be used, or a newer Menagerie wrote it.
    """
    settings = get_settings()
    make_folder(settings.journal_url)
    return Journal(settings.journal_url, settings.home / "spool")


def quarantined(journal: Journal, problem: str) -> list[Quarantined]:
    """The clients whose voices do not count for a problem, as the settings say."""
    settings = get_settings()
    limits = Limits(settings.quarantine_agreement, settings.quarantine_labels, settings.feedback_per_hour)
    return journal.quarantined(problem, limits)


def set_aside(journal: Journal, problem: str) -> frozenset[str]:
    """The same clients by their hashes alone: what readers of labels leave out."""
    return frozenset(one.client for one in quarantined(journal, problem))
