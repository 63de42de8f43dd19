"""What lives as long as the process is no garbage: the collector need not look through it.

Every few seconds of load it would, all of it, holding the interpreter for a tenth of a second: the slowest answers were
those that waited for that.
"""

from __future__ import annotations

import gc


def keep_for_good() -> None:
    """Have the garbage collector pass over everything that is there now."""
    gc.collect()
    gc.freeze()
