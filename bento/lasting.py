"""What lives as long as the process is no garbage: the collector need not look through it. What does not is given back.

Every few seconds of load it would, all of it, holding the interpreter for a tenth of a second: the slowest answers were
those that waited for that.
"""

from __future__ import annotations

import gc

from menagerie.hardware import give_back_freed_memory


def keep_for_good() -> None:
    """Have the garbage collector pass over everything that is there now, and keep no memory that only starting took."""
    gc.collect()
    gc.freeze()
    give_back_freed_memory()
