"""Checkpoints are data alone, whole or absent, and bring an optimizer back as it was."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from menagerie.models import checkpoint
from menagerie.models.checkpoint import load_tensors, optimizer_tensors, pack, restore_optimizer, save_tensors, unpack


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    tensors = {
        "turned": torch.arange(6.0).view(2, 3).T,
        "part": torch.arange(10)[2:5],
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "channels last": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "number": torch.tensor(3),
    }
    facts = {"history": [{"phase": "head", "loss": 0.1 + 0.2, "best": None}]}
    save_tensors(tmp_path / "new" / "a.safetensors", tensors, facts)
    found, said = load_tensors(tmp_path / "new" / "a.safetensors")
    assert said == facts
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype


def test_tensors_that_share_memory_are_taken(tmp_path: Path) -> None:
    base = torch.arange(4.0)
    save_tensors(tmp_path / "a.safetensors", {"one": base, "two": base}, {})
    found, _ = load_tensors(tmp_path / "a.safetensors")
    assert torch.equal(found["one"], found["two"])


def test_the_file_is_a_header_of_json_and_numbers(tmp_path: Path) -> None:
    """Read by hand, so that nothing in it can be code: eight bytes of length, JSON, then the raw numbers."""
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.tensor([1.0, 2.0])}, {"epoch": 3})
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    assert header["x"]["dtype"] == "F32"
    assert json.loads(header["__metadata__"]["facts"]) == {"epoch": 3}
    assert struct.unpack("<2f", raw[8 + length :]) == (1.0, 2.0)
    assert torch.equal(safetensors.torch.load_file(path)["x"], torch.tensor([1.0, 2.0]))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.tensor([1.0])}, {"epoch": 1})

    def half(tensors: dict[str, torch.Tensor], draft: Path, metadata: dict[str, str]) -> None:
        draft.write_bytes(b"half a fi")
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", half)
        with pytest.raises(OSError, match="no space"):
            save_tensors(path, {"x": torch.tensor([2.0])}, {"epoch": 2})
    tensors, facts = load_tensors(path)
    assert (tensors["x"].item(), facts) == (1.0, {"epoch": 1})
    save_tensors(path, {"x": torch.tensor([2.0])}, {"epoch": 2})
    assert load_tensors(path)[1] == {"epoch": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_states_are_packed_and_taken_apart() -> None:
    one, two = {"w": torch.tensor(1), "a/b": torch.tensor(2)}, {"w": torch.tensor(3)}
    flat = pack(module=one, best=two)
    assert set(flat) == {"module/w", "module/a/b", "best/w"}
    assert unpack(flat, "module") == one
    assert unpack(flat, "best") == two
    assert unpack(flat, "optimizer") == {}


def test_an_optimizer_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        module(x).square().sum().backward()
        optimizer.step()

    one = nn.Linear(3, 2)
    first = torch.optim.AdamW(one.parameters(), lr=0.1)
    for seed in range(3):
        step(one, first, seed)
    save_tensors(tmp_path / "a.safetensors", pack(module=one.state_dict(), optimizer=optimizer_tensors(first)), {})

    two = nn.Linear(3, 2)
    second = torch.optim.AdamW(two.parameters(), lr=0.1)
    tensors, _ = load_tensors(tmp_path / "a.safetensors")
    two.load_state_dict(unpack(tensors, "module"))
    restore_optimizer(second, unpack(tensors, "optimizer"))
    for seed in range(3, 6):
        step(one, first, seed)
        step(two, second, seed)
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)
