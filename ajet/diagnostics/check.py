"""`ajet check`: tries everything in a configuration except the model's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from ajet.config.backbones import backbone_entry
from ajet.config.loading.hints import hints, ignored_settings
from ajet.config.sections.debug import is_url
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.diagnostics.check_episode import findings_of, run_scripted
from ajet.diagnostics.check_inputs import credit_of_one_episode, episodes_of_run, look_at_tasks
from ajet.diagnostics.finding import Finding, gigabytes
from ajet.diagnostics.machine import this_machine
from ajet.diagnostics.memory_estimate import ModelSize, estimate, size_of
from ajet.diagnostics.torch_facts import ask_loading, ask_torch
from ajet.errors import AjetError
from ajet.launcher.backbones import check_engine, check_libraries, refuse_settings
from ajet.launcher.services import services_running
from ajet.model_files import adapter_base, check_model_files, check_values
from ajet.monitor.run_record import recorded
from ajet.schema.episode import Failure
from ajet.schema.task import Task
from ajet.task_judge import make_judge
from ajet.task_reader.read_tasks import TrainingData, make_task_reader
from ajet.task_runner.failures import call_user_code
from ajet.training.inputs import UserCode
from ajet.training.model_folder import chat_format_of, model_folder
from ajet.workflow import load_workflow

T = TypeVar("T")


def check(config: RootConfig, *, builds_model: bool = True) -> list[Finding]:
    """Check everything that a run of this configuration needs; no weight is loaded.

    Args:
        config: what to check.
        builds_model: whether the model is built without its weights where the embedded engine
            serves it, as loading would build it; this imports torch.
    """
    return _Check(config, builds_model).run()


class _Check:
    def __init__(self, config: RootConfig, builds_model: bool) -> None:
        self._config = config
        self._ajet = config.ajet
        self._builds_model = builds_model
        self._findings: list[Finding] = []

    def run(self) -> list[Finding]:
        self._look_at_configuration()
        with ExitStack() as stack:
            if self._ajet.task_runner.services:
                self._try("services", lambda: self._start_services(stack))
            self._look_at_parts()
        return self._findings

    def _look_at_configuration(self) -> None:
        ajet = self._ajet
        self._add(_configuration(self._config))
        self._try("configuration", lambda: refuse_settings(ajet))
        self._try("backbone", lambda: check_libraries(ajet.backbone))
        self._try("engine", lambda: check_engine(ajet))
        self._add(self._try("configuration", lambda: list(credit_of_one_episode(ajet))) or [])

    def _start_services(self, stack: ExitStack) -> None:
        """Start what the run would start: its tasks, episodes and judge may need it."""
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="ajet-check-")))
        services = self._ajet.task_runner.services
        stack.enter_context(recorded(folder, ["ajet", "check"]))
        stack.enter_context(services_running(services, folder))
        names = ", ".join(service.name for service in services)
        self._add([Finding("ok", "services", f"started for this check: {names}")])

    def _look_at_parts(self) -> None:
        ajet = self._ajet
        path, judge = ajet.rollout.user_workflow, ajet.task_judge.judge_class
        workflow = self._try("workflow", lambda: load_workflow(path))
        if workflow:
            self._add([Finding("ok", "workflow", path)])
        # In a tuple: None means that the configuration has no judge, not that the judge failed.
        its_judge = self._try("judge", lambda: (make_judge(judge, self._config),))
        data = self._try("data", self._data)
        if data:
            tasks = data.batches.tasks
            self._add(look_at_tasks(tasks, data.validation, ajet))
            self._add([episodes_of_run(data.total_steps, len(data.validation), ajet)])
        found = self._try("model", lambda: (_folder_on_disk(ajet.model.path),))
        if found is None:
            return
        (folder,) = found
        if folder is None:
            text = f"{ajet.model.path} is not on this machine, so its chat format, an episode and"
            self._add([Finding("warn", "model", f"{text} the memory are not checked")])
            return
        if not self._try("model", lambda: self._loads(folder)):
            return
        size = self._try("model", lambda: size_of(folder))
        if size:
            self._add(_too_long(size, ajet))
            if data and workflow and its_judge:
                code = UserCode(workflow_class=workflow, judge=its_judge[0])
                self._look_at_episode(folder, size, code, data.batches.tasks[0])
            self._add(self._try("model", lambda: [_memory(size, ajet)]) or [])

    def _data(self) -> TrainingData | None:
        """The tasks; None, with a warning, if they would have to be paid for first."""
        reader = make_task_reader(self._ajet.task_reader)
        if (why := reader.not_ready()) is not None:
            self._add([Finding("warn", "data", why)])
            return None
        return TrainingData.read(self._ajet, reader)

    def _loads(self, folder: Path) -> bool:
        """Whether the model can be loaded, by the code that loads it; else an error is raised."""
        if adapter_base(folder) is None:
            check_model_files(folder)
            check_values(folder)
        ajet = self._ajet
        is_embedded = ajet.rollout.name == "embedded" and not is_url(ajet.debug.engine)
        is_served = is_embedded and not backbone_entry(ajet.backbone).brings_engine
        if self._builds_model and (is_served or ajet.lora.lora_rank):
            ask_loading(folder, ajet, is_served=is_served)
        return True

    def _look_at_episode(self, folder: Path, size: ModelSize, code: UserCode, task: Task) -> None:
        length = self._ajet.rollout.max_model_len or size.max_length
        chat_format = self._try("model", lambda: chat_format_of(self._ajet.model, folder))
        if chat_format:
            episode = self._try(
                "episode", lambda: run_scripted(self._config, chat_format, code, task, length)
            )
            if episode:
                self._add(findings_of(episode, self._ajet.task_judge.judge_class))

    def _add(self, findings: Iterable[Finding]) -> None:
        self._findings += findings

    def _try(self, name: str, function: Callable[[], T]) -> T | None:
        """The function's result, or None if it failed; the failure becomes a finding."""
        try:
            result = call_user_code(function)
        except AjetError as error:
            text, _, more = str(error).partition("\n")
            self._add([Finding("bad", name, text, more)])
            return None
        if isinstance(result, Failure):
            self._add([Finding("bad", name, result.message, result.traceback.rstrip())])
            return None
        return result


def _configuration(config: RootConfig) -> list[Finding]:
    ajet = config.ajet
    name, backbone = "configuration", ajet.backbone
    ignored = [
        f"{setting} has no effect with the backbone {backbone}"
        for setting in ignored_settings(config, backbone)
    ]
    engine = "vllm" if backbone_entry(backbone).brings_engine else ajet.rollout.name
    return [
        Finding("ok", name, f"backbone {backbone}, engine {engine}"),
        *(Finding("warn", name, text) for text in [*ignored, *hints(ajet)]),
    ]


def _folder_on_disk(path: str) -> Path | None:
    """The folder of the model, or None if a run would have to download it."""
    if Path(path).exists():
        return model_folder(path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except ValueError:  # no name that the hub knows
        return model_folder(path)


def _too_long(size: ModelSize, ajet: AjetConfig) -> Iterator[Finding]:
    """What vLLM refuses at its start; `_loads` asks the embedded engine itself."""
    starts_vllm = ajet.rollout.name == "vllm" or backbone_entry(ajet.backbone).brings_engine
    length = ajet.rollout.max_model_len or 0
    if starts_vllm and length > size.max_length:
        text = f"ajet.rollout.max_model_len is {length}, but the model has only"
        yield Finding("bad", "model", f"{text} {size.max_length} positions")


def _memory(size: ModelSize, ajet: AjetConfig) -> Finding:
    device = ajet.model.device
    gpus = []
    if device == "cuda" or (device == "auto" and Path("/dev/nvidiactl").exists()):
        gpus = ask_torch().gpus
    parts = estimate(size, ajet, on_gpu=bool(gpus))
    needed = sum(parts.values())
    free = gpus[0][1] if gpus else this_machine(Path(ajet.experiment_dir)).free_memory
    where = f"of the {gigabytes(free)} of {gpus[0][0]}" if gpus else f"of {gigabytes(free)} free"
    listed = ", ".join(f"{name} {gigabytes(value)}" for name, value in parts.items() if value)
    text = f"at most {gigabytes(needed)} {where}: {listed}"
    if needed <= free:
        return Finding("ok", "memory", text)
    remedy = (
        "reduce trainer_common.micro_batch_tokens, rollout.max_num_seqs or rollout.max_model_len"
    )
    return Finding("warn", "memory", text, remedy)
