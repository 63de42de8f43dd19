"""What this machine can do, and how to make it do that well."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
BF16 = ("avx512_bf16", "amx_bf16")  # either computes in bfloat16
VNNI = ("avx_vnni", "avx512_vnni", "amx_int8")
# Parameters of glibc's mallopt: how many blocks may be mapped, when to give memory back, how much to ask for at once.
_MALLOPT = {-4: 0, -1: 2**31 - 1, -2: 256 * 2**20}


@cache
def cpu_features() -> tuple[str, ...]:
    """Which vector instructions that matter for inference this processor has."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return ()
    return tuple(name for name in FEATURES if name in flags)


def computes_in_bf16() -> bool:
    """Whether bfloat16 is faster than float32 on this processor."""
    return has_any(BF16)


def has_any(features: Iterable[str]) -> bool:
    """Whether this processor has one of them; true where none is asked for."""
    wanted = set(features)
    return not wanted or bool(wanted & set(cpu_features()))


def keep_freed_memory() -> None:
    """Let malloc keep what is freed: each picture and each training step wants large blocks again, and fetching them
    from the kernel anew costs as much as the arithmetic. Does nothing where the C library is not glibc."""
    if (mallopt := _of_libc("mallopt")) is not None:
        for parameter, value in _MALLOPT.items():
            mallopt(parameter, value)


def give_back_freed_memory() -> None:
    """Return to the system what was freed: malloc keeps what lies between blocks in use. Does nothing where the C
    library is not glibc."""
    if (trim := _of_libc("malloc_trim")) is not None:
        trim(0)


def _of_libc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
