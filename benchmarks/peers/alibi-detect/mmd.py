"""alibi-detect's MMD as shipped: `python mmd.py PROBLEMS SEED`; its last line is JSON, a p-value for every problem.

PROBLEMS is an .npz file with `reference_<i>` and `window_<i>`, float32 [n, d] and [w, d], of the problems from 0 on.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
STEP = 10  # problems from one line of progress to the next


def read_problems(path: Path) -> list[tuple[Rows, Rows]]:
    """Reference and window of every problem.

    Raises:
        ValueError: the file holds Python objects.
    """
    with np.load(path, allow_pickle=False) as arrays:
        return [(arrays[f"reference_{i}"], arrays[f"window_{i}"]) for i in range(len(arrays.files) // 2)]


def p_value(reference: Rows, window: Rows, seed: int) -> float:
    """Of a permutation test, by default of 100 permutations: a multiple of 0.01, and 0 where none comes up to what
    was found. The limit that the detector has by default, 0.05, has no part in it."""
    import torch
    from alibi_detect.cd import MMDDrift

    torch.set_num_threads(1)  # every core has a process of its own
    torch.manual_seed(seed)
    # It would take a GPU where there is one: the figures should be those of every machine.
    detector = MMDDrift(reference, backend="pytorch", device="cpu")
    p_val = float(detector.predict(window)["data"]["p_val"])
    return round(p_val, 6)  # of 32 bits, in which one of 100 is a bit less than 0.01


def main() -> None:
    """Every problem with a seed of its own, SEED and upwards."""
    problems, seed = read_problems(Path(sys.argv[1])), int(sys.argv[2])
    references, windows = [reference for reference, _ in problems], [window for _, window in problems]
    found = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for value in pool.map(p_value, references, windows, range(seed, seed + len(problems))):
            found.append(value)
            if len(found) % STEP == 0 or len(found) == len(problems):
                print(f"  alibi-detect: {len(found)} of {len(problems)} windows", file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
