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


class Library:
    """glibc, as far as it is asked."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []
        self.trimmed = 0

    def mallopt(self, parameter: int, value: int) -> None:
        self.told.append((parameter, value))

    def malloc_trim(self, kept: int) -> None:
        assert kept == 0
        self.trimmed += 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    return library


def ask_all() -> None:
    hardware.keep_freed_memory()
    hardware.give_back_freed_memory()


def test_malloc_is_asked_on_linux(monkeypatch: pytest.MonkeyPatch, library: Library) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    ask_all()
    assert {parameter for parameter, _ in library.told} == {-4, -2, -1}  # M_MMAP_MAX, M_TOP_PAD, M_TRIM_THRESHOLD
    assert all(-(2**31) <= value < 2**31 for _, value in library.told)  # mallopt takes an int
    assert library.trimmed == 1


def test_malloc_is_left_alone_elsewhere(monkeypatch: pytest.MonkeyPatch, library: Library) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    ask_all()
    assert (library.told, library.trimmed) == ([], 0)


def test_a_c_library_that_cannot_be_asked_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    ask_all()
