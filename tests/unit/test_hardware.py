"""What the machine says of itself, and what is made of it where it says nothing."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from menagerie import hardware


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    hardware.cpu_features.cache_clear()
    yield
    hardware.cpu_features.cache_clear()


def says(monkeypatch: pytest.MonkeyPatch, flags: str | None) -> None:
    def read(path: Path, encoding: str) -> str:
        assert str(path) == "/proc/cpuinfo"
        if flags is None:
            raise FileNotFoundError(path)
        return f"processor\t: 0\nflags\t\t: fpu {flags} sse\n"

    monkeypatch.setattr(Path, "read_text", read)


def test_features_are_whole_words_in_our_order(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, "avx512_bf16 avx_vnni avx2 avx512fp16 amx_int8")
    assert hardware.cpu_features() == ("avx2", "avx_vnni", "avx512_bf16", "amx_int8")


@pytest.mark.parametrize(
    ("flags", "fast"), [("avx2", False), ("avx2 avx512_bf16", True), ("amx_bf16", True), (None, False)]
)
def test_bfloat16_is_used_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, flags: str | None, fast: bool
) -> None:
    says(monkeypatch, flags)
    assert hardware.computes_in_bf16() is fast


@pytest.mark.parametrize(
    ("wanted", "there"),
    [((), True), (("avx2",), True), (("amx_bf16", "avx2"), True), (("amx_bf16",), False), (("avx", "sse"), False)],
)
def test_one_of_the_features_is_enough_and_none_asks_nothing(
    monkeypatch: pytest.MonkeyPatch, wanted: tuple[str, ...], there: bool
) -> None:
    says(monkeypatch, "avx2 avx512f")
    assert hardware.has_any(wanted) is there


def test_without_cpuinfo_there_are_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, None)
    assert hardware.cpu_features() == ()


def test_malloc_is_asked_on_linux_and_left_alone_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, parameter: int, value: int) -> None:
            asked.append((parameter, value))

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library())
    monkeypatch.setattr(sys, "platform", "darwin")
    hardware.keep_freed_memory()
    assert asked == []
    monkeypatch.setattr(sys, "platform", "linux")
    hardware.keep_freed_memory()
    assert {parameter for parameter, _ in asked} == {-4, -2, -1}  # M_MMAP_MAX, M_TOP_PAD, M_TRIM_THRESHOLD
    assert all(-(2**31) <= value < 2**31 for _, value in asked)  # mallopt takes an int


def test_a_c_library_without_mallopt_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    hardware.keep_freed_memory()
