"""Werewolves with AgentScope: one model plays one side, `debug_model` plays the other."""

from typing import Any

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tutorial.example_werewolves.game import Game
from tutorial.example_werewolves.player import Player, role_sheet
from tutorial.example_werewolves.table import WEREWOLF, Table


class Werewolves(Workflow):
    """Trains the werewolves. For the other side: `user_workflow: ...->Villagers`."""

    name: str = "werewolves"
    trainable_targets: list[str] | None = [WEREWOLF]

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Play the game of the task's number. Every player of the winning side gets reward 1."""
        settings = tuner.config.werewolves
        number = int(workflow_task.task.metadata["random_number"])
        table = Table.of(number, settings.num_players)
        players = {name: self._player(name, table, settings, tuner) for name in table.roles}
        winner = await Game(table, players).play()
        wolves_won = winner == "werewolves"
        rewards = {
            name: float((role == WEREWOLF) == wolves_won)
            for name, role in table.roles.items()
            if len(players[name].messages) > 1 and self._has_spoken(players[name])
        }
        return WorkflowOutput(
            reward=rewards,
            is_success=wolves_won == (WEREWOLF in (self.trainable_targets or [])),
            log_metrics={"werewolves_won": float(wolves_won)},
        )

    def _player(self, name: str, table: Table, settings: Any, tuner: AjetTuner) -> Player:
        role = table.roles[name]
        fellows = [
            other
            for other, its_role in table.roles.items()
            if role == its_role == WEREWOLF and other != name
        ]
        model = tuner.as_agentscope_model(
            agent_name=name, target_tag=role, debug_model=dict(settings.others)
        )
        return Player(name, role_sheet(name, role, fellows), model)

    @staticmethod
    def _has_spoken(player: Player) -> bool:
        return any(message["role"] == "assistant" for message in player.messages)


class Villagers(Werewolves):
    """Trains everybody but the werewolves."""

    trainable_targets: list[str] | None = ["villager", "seer", "witch", "hunter"]
