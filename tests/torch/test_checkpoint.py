"""Checkpoints.

1. Resuming continues bit for bit: weights, optimizer, random states.
2. A checkpoint is there in full or not at all: crash, full disk, interruption.
3. It is a Hugging Face folder with a tokenizer.
4. What cannot be read is a clear error.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import ajet.training.checkpoints
from ajet.backbone.local.checkpoint import load_checkpoint, save_checkpoint
from ajet.backbone.local.trainer import PolicyTrainer
from ajet.config.sections.algorithm import OptimConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.errors import CheckpointError
from ajet.training.checkpoints import Position, latest_checkpoint, list_checkpoints
from tests.torch.small_model import random_samples, small_model


def make_trainer(seed: int = 0, dtype: torch.dtype = torch.float32) -> PolicyTrainer:
    optim = OptimConfig(lr=1e-3, lr_schedule="linear", num_updates_per_step=2)
    return PolicyTrainer(small_model(seed, dtype), TrainerCommonConfig(optim=optim), total_steps=5)


def train(trainer: PolicyTrainer, step: int) -> dict[str, float]:
    return trainer.update(random_samples(6, seed=step), step=step, policy_version=step - 1)


def weights_of(trainer: PolicyTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The folder that the model came from."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"):
        (folder / name).write_text(f"{{}} of {name}")
    return folder


def save(
    folder: Path, source: Path, trainer: PolicyTrainer, step: int, keep: int | None = None
) -> Path:
    progress = Position(step=step, policy_version=step, reader_state={"epoch": 1, "next": [3, 4]})
    save_checkpoint(
        folder,
        progress,
        model=trainer.model,
        optimizer=trainer.optimizer,
        tokenizer_dir=source,
        max_to_keep=keep,
    )
    return folder / f"step_{step:06d}"


def load(path: Path, trainer: PolicyTrainer) -> Position:
    return load_checkpoint(path, model=trainer.model, optimizer=trainer.optimizer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resuming_continues_bit_for_bit(tmp_path: Path, source: Path, dtype: torch.dtype) -> None:
    straight = make_trainer(dtype=dtype)
    train(straight, 1)
    train(straight, 2)
    path = save(tmp_path / "checkpoints", source, straight, 2)
    resumed = make_trainer(seed=99, dtype=dtype)
    assert load(path, resumed).step == 2
    for step in (3, 4):
        assert train(resumed, step) == train(straight, step)
    assert torch.equal(weights_of(resumed), weights_of(straight))


def test_resuming_without_the_optimizer_would_not(tmp_path: Path, source: Path) -> None:
    """Negative control: the optimizer's state matters."""
    straight = make_trainer()
    train(straight, 1)
    path = save(tmp_path, source, straight, 1)
    resumed = make_trainer()
    load_checkpoint(path, model=resumed.model, optimizer=make_trainer().optimizer)
    train(resumed, 2)
    train(straight, 2)
    assert not torch.equal(weights_of(resumed), weights_of(straight))


def test_random_generators_continue(tmp_path: Path, source: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), np.random.random(), float(torch.rand(()))

    trainer = make_trainer()
    np.random.standard_normal()  # leaves half a pair in NumPy's state
    path = save(tmp_path, source, trainer, 1)
    expected = draw(), np.random.standard_normal()
    draw()
    load(path, trainer)
    assert (draw(), np.random.standard_normal()) == expected


def test_progress_comes_back(tmp_path: Path, source: Path) -> None:
    trainer = make_trainer()
    progress = load(save(tmp_path, source, trainer, 7), trainer)
    assert progress == Position(step=7, policy_version=7, reader_state={"epoch": 1, "next": [3, 4]})


def test_a_checkpoint_is_a_model_folder_with_a_tokenizer(tmp_path: Path, source: Path) -> None:
    trainer = make_trainer()
    path = save(tmp_path / "checkpoints", source, trainer, 12)
    assert path == tmp_path / "checkpoints" / "step_000012"
    model = AutoModelForCausalLM.from_pretrained(path)
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (path / name).read_text() == f"{{}} of {name}"


def test_the_latest_is_the_one_of_the_highest_step(tmp_path: Path, source: Path) -> None:
    assert latest_checkpoint(tmp_path / "checkpoints") is None
    trainer = make_trainer()
    for step in (2, 10, 9):
        save(tmp_path, source, trainer, step)
    assert latest_checkpoint(tmp_path) == tmp_path / "step_000010"


def test_only_so_many_are_kept(tmp_path: Path, source: Path) -> None:
    trainer = make_trainer()
    for step in range(1, 5):
        save(tmp_path, source, trainer, step, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_000003", "step_000004"]
    assert len(list(tmp_path.glob(".*"))) == 0


def test_saving_a_step_again_replaces_it(tmp_path: Path, source: Path) -> None:
    trainer = make_trainer()
    save(tmp_path, source, trainer, 1)
    train(trainer, 1)
    path = save(tmp_path, source, trainer, 1)
    other = make_trainer()
    load(path, other)
    assert torch.equal(weights_of(other), weights_of(trainer))


def test_leftovers_of_a_dead_attempt_are_ignored_and_removed(tmp_path: Path, source: Path) -> None:
    trainer = make_trainer()
    path = save(tmp_path, source, trainer, 1)
    leftovers = [tmp_path / ".step_000002.partial-4711", tmp_path / ".step_000000.partial-4711-old"]
    for leftover in leftovers:
        shutil.copytree(path, leftover)
    assert latest_checkpoint(tmp_path) == path
    assert not any(leftover.exists() for leftover in leftovers)
    shutil.copytree(path, leftovers[0])
    save(tmp_path, source, trainer, 3)
    assert not leftovers[0].exists()


def assert_nothing_lost(folder: Path, earlier: Path) -> None:
    assert list(folder.iterdir()) == [earlier]
    load(earlier, make_trainer())


@pytest.mark.parametrize("number", range(0, 12, 3))
def test_a_disk_that_fills_up_loses_nothing(
    tmp_path: Path, source: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints"
    trainer = make_trainer()
    earlier = save(folder, source, trainer, 1)
    calls = iter(range(number))

    def full(descriptor: int) -> None:
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ajet.training.checkpoints.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"step_000002.*No space left on device"):
        save(folder, source, trainer, 2)
    assert_nothing_lost(folder, earlier)


def test_an_interruption_leaves_no_part(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints"
    trainer = make_trainer()
    earlier = save(folder, source, trainer, 1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(folder, source, trainer, 2)
    assert_nothing_lost(folder, earlier)


@pytest.fixture(params=["6m", "8m"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system with room for one checkpoint of 5.5 MB, and a part of another."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a file may be open yet


def test_a_really_full_disk_loses_nothing(small_disk: Path, source: Path) -> None:
    trainer = make_trainer()
    train(trainer, 1)
    earlier = save(small_disk, source, trainer, 1)
    with pytest.raises(CheckpointError, match=r"step_000002: the checkpoint cannot be written"):
        save(small_disk, source, trainer, 2)
    assert_nothing_lost(small_disk, earlier)


def test_a_missing_file_is_named(tmp_path: Path, source: Path) -> None:
    path = save(tmp_path, source, make_trainer(), 1)
    (path / "trainer_state.pt").unlink()
    with pytest.raises(CheckpointError, match=r"step_000001/trainer_state.pt is missing"):
        load(path, make_trainer())


def test_a_file_that_was_cut_is_named(tmp_path: Path, source: Path) -> None:
    path = save(tmp_path, source, make_trainer(), 1)
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model.safetensors has \d+ bytes; it was written"):
        load(path, make_trainer())


def test_a_weight_that_was_changed_is_found_and_the_checkpoint_before_offered(
    tmp_path: Path, source: Path
) -> None:
    first, second = (save(tmp_path, source, make_trainer(), step) for step in (1, 2))
    weights = second / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 0x40
    weights.write_bytes(content)
    message = r"model.safetensors .* SHA-256 differs.* checkpoint before, step_000001\."
    with pytest.raises(CheckpointError, match=message):
        load(second, make_trainer())
    assert load(first, make_trainer()).step == 1
    shutil.rmtree(first)
    with pytest.raises(CheckpointError, match="no earlier checkpoint: remove .*step_000002"):
        load(second, make_trainer())


def test_a_checkpoint_from_before_there_were_hashes_is_read(tmp_path: Path, source: Path) -> None:
    path = save(tmp_path, source, make_trainer(), 1)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert load(path, make_trainer()).step == 1


def test_a_folder_that_is_no_checkpoint_is_refused(source: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        load(source, make_trainer())


FILES = ("manifest.json", "reader_state.json", "config.json", "model.safetensors")
DAMAGES = (b"", b"[]", b"null", b"words", b"\xff\x00" * 90, b"[" * 9_999)


@pytest.mark.parametrize("has_hashes", [True, False])
@pytest.mark.parametrize("file", [*FILES, "trainer_state.pt"])
def test_a_damaged_file_is_one_sentence_that_offers_the_checkpoint_before(
    tmp_path: Path, source: Path, file: str, has_hashes: bool
) -> None:
    """Also without hashes, as older checkpoints are, and where the sizes were written anew."""
    _, second = (save(tmp_path, source, make_trainer(), step) for step in (1, 2))
    trainer = make_trainer(seed=7)
    for content in DAMAGES:
        (second / file).write_bytes(content)
        if not has_hashes and file != "manifest.json":
            manifest = json.loads((second / "manifest.json").read_text())
            manifest.pop("sha256", None)
            manifest["bytes"][file] = len(content)
            (second / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(CheckpointError, match=r"checkpoint before, step_000001\.$") as told:
            load(second, trainer)
        assert len(str(told.value).splitlines()) == 1


def test_manifest_fields_that_are_missing_are_damage(tmp_path: Path, source: Path) -> None:
    path = save(tmp_path, source, make_trainer(), 1)
    whole = json.loads((path / "manifest.json").read_text())
    for name in ("step", "policy_version", "bytes"):
        (path / "manifest.json").write_text(json.dumps({**whole, name: None}))
        with pytest.raises(CheckpointError, match="no earlier checkpoint"):
            load(path, make_trainer())
