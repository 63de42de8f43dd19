"""How networks are trained here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def on_one_thread_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Results are compared bit for bit, which no graphics card promises; so little work is slower on more threads."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
