"""`ajet export` of a real run.

1. transformers loads the folder, and its logprobs are those of the checkpoint.
2. Nothing is written if the model does not compute what the engine computes, or computed.
3. The dtype is chosen; the card says what the model is.
4. An adapter of the run's rank is computed back from merged weights.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from ajet.backbone.local import exported
from ajet.config.loading.load import load_config
from ajet.errors import CheckpointError, ConfigError, ModelError
from ajet.export import export as export_module
from ajet.export.export import export
from ajet.launcher.run_folder import checkpoint_of
from tests.end_to_end.command import ajet
from tests.end_to_end.test_disk_full import small_disk

SMALL = (
    "trainer_common.total_training_steps=2",
    "trainer_common.save_freq=1",
    "trainer_common.val_before_train=false",
    "trainer_common.test_freq=-1",
    "rollout.validation.num_tasks=2",
    "data.train_batch_size=2",
    "rollout.num_repeat=4",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    done = ajet("--backbone=local", f"--exp-dir={folder}", *SMALL)
    assert done.code == 0, done.stderr
    return folder / "math_agent_cpu"


def export_of(run: Path, to: Path, **choices: Any) -> Any:
    return export(run, **{"step": None, "to": to, "dtype": None, "lora": "merge", **choices})


def logprobs(folder: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids).logits.log_softmax(-1)
    return found


def test_transformers_loads_it_with_the_same_logprobs(run: Path, tmp_path: Path) -> None:
    made = export_of(run, tmp_path / "out")
    assert made.dtype == "float32"
    assert made.difference < 1e-4
    assert torch.equal(logprobs(tmp_path / "out"), logprobs(run / "checkpoints/step_000002"))
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= there
    assert "trainer_state.pt" not in there


def test_an_earlier_step_is_compared_with_what_the_engine_recorded(
    run: Path, tmp_path: Path
) -> None:
    made = export_of(run, tmp_path / "out", step="1")
    assert made.recorded is not None
    assert made.recorded < 1e-3


def test_a_chosen_dtype(run: Path, tmp_path: Path) -> None:
    made = export_of(run, tmp_path / "out", dtype="bfloat16")
    assert made.dtype == exported.stored_dtype(tmp_path / "out") == "bfloat16"
    assert made.difference < 1e-4


def test_a_wrong_model_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = exported.write_model

    def broken(checkpoint: Path, folder: Path, dtype: str | None) -> str:
        from safetensors.torch import load_file, save_file

        made = write(checkpoint, folder, dtype)
        weights = load_file(folder / "model.safetensors")
        name = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
        weights[name][0] += 0.1
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return made

    monkeypatch.setattr(exported, "write_model", broken)
    with pytest.raises(ModelError, match="does not compute what the engine computes"):
        export_of(run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_step_are_seen_in_the_record(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints/step_000001")
    shutil.copytree(run / "checkpoints/step_000002", copy / "checkpoints/step_000001")
    manifest = copy / "checkpoints/step_000001/manifest.json"
    manifest.write_text(manifest.read_text().replace('"policy_version": 2', '"policy_version": 1'))
    with pytest.raises(ModelError, match="recorded in step 2"):
        export_of(copy, tmp_path / "out", step="1")


def test_a_damaged_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    with (copy / "checkpoints/step_000002/model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    with pytest.raises(CheckpointError, match="SHA-256"):
        export_of(copy, tmp_path / "out")


def test_a_folder_that_is_not_empty_is_kept(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        export_of(run, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_an_empty_folder_is_filled_where_it_stands(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    inode = here.stat().st_ino
    export_of(run, Path("."))
    assert here.stat().st_ino == inode
    assert (here / "config.json").is_file()
    assert [path for path in here.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_full_disk_is_named_and_nothing_is_left(run: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mb=1):
        for to in (tmp_path / "disk", tmp_path / "disk/new"):
            with pytest.raises(ConfigError, match=f"{to} cannot be written: .*No space"):
                export_of(run, to)
            assert list((tmp_path / "disk").iterdir()) == []


def test_a_logprob_that_is_no_number_is_a_difference() -> None:
    class NoNumbers:
        device = "cpu"

        def __call__(self, input_ids: torch.Tensor) -> Any:
            return SimpleNamespace(logits=torch.full((1, input_ids.shape[1], 8), torch.nan))

    sampled = exported.Sampled(prompt_ids=[1], token_ids=[2, 3], logprobs=[-1.0, -1.0])
    assert math.isnan(exported.largest_difference(NoNumbers(), [sampled]))  # type: ignore[arg-type]


@pytest.mark.parametrize(("asked", "step"), [("latest", 2), ("best", 1), ("1", 1)])
def test_a_checkpoint_is_named_in_several_ways(run: Path, asked: str, step: int) -> None:
    link = run / "best_checkpoint"
    link.unlink(missing_ok=True)
    link.symlink_to("checkpoints/step_000001")
    assert checkpoint_of(run, asked)[0] == step


def test_without_a_best_checkpoint_the_others_are_named(run: Path) -> None:
    (run / "best_checkpoint").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=r"no checkpoint is known as the best .* steps: 1, 2"):
        checkpoint_of(run, "best")
    with pytest.raises(ConfigError, match=r"no checkpoint of step nine; there are: 1, 2"):
        checkpoint_of(run, "nine")


def test_the_card_tells_what_the_model_is(run: Path, tmp_path: Path) -> None:
    export_of(run, tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["library_name"] == "transformers"
    for part in ("math_agent_cpu, step 2", "reward/mean", "adv_estimator | grpo", "torch | "):
        assert part in text
    assert str(run) not in text


def test_an_adapter_is_computed_back_from_merged_weights(run: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = run / "checkpoints/step_000001"
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in model.model.layers:
            for module in (layer.self_attn.q_proj, layer.mlp.down_proj):
                out, into = module.weight.shape
                module.weight += torch.randn(out, 4) @ torch.randn(4, into) * 0.01
    model.save_pretrained(tmp_path / "merged")
    (tmp_path / "adapter").mkdir()
    exported.write_adapter(base, tmp_path / "merged", tmp_path / "adapter", 4, "owner/base")
    added = exported.load_exported(tmp_path / "adapter", base)
    for (name, weight), merged in zip(added.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(weight, merged, atol=1e-6), name
    with pytest.raises(ModelError, match="not of rank 2"):
        exported.write_adapter(base, tmp_path / "merged", tmp_path / "adapter", 2, "owner/base")


def test_a_record_of_cut_distributions_is_not_compared(run: Path) -> None:
    ajet = load_config(run / "config.yaml").ajet
    assert export_module._samples(run, 2, ajet)
    for change in ({"top_p": 0.9}, {"top_k": 5}, {"response_format": "constrain"}):
        cut = ajet.model_copy(update={"rollout": ajet.rollout.model_copy(update=change)})
        assert not export_module._samples(run, 2, cut)
