"""The moderator: nights and days until one side has won."""

from agentscope.message import Msg
from agentscope.pipeline import MsgHub

from tutorial.example_werewolves.player import Player
from tutorial.example_werewolves.table import WEREWOLF, Table

MODERATOR = "Moderator"
MAX_ROUNDS = 7


class Game:
    """One game of the players at a table."""

    def __init__(self, table: Table, players: dict[str, Player]) -> None:
        self.table = table
        self.players = players
        self.potions = {"save", "poison"}
        """What the witch still has."""

    async def play(self) -> str:
        """Play to the end and return the winner; a game without end is the werewolves'."""
        for number in range(1, MAX_ROUNDS + 1):
            await self._night(number)
            if self.table.winner is None:
                await self._day(number)
            if self.table.winner is not None:
                return self.table.winner
        return "werewolves"

    def _living(self) -> list[Player]:
        return [self.players[name] for name in self.table.alive]

    async def _ask(self, name: str, text: str, allowed: list[str]) -> str | None:
        """The choice of one player; None if it names nobody who is allowed."""
        await self.players[name](Msg(MODERATOR, text, "user"))
        choice = self.players[name].last_turn.choose
        return choice if choice in allowed else None

    async def _night(self, number: int) -> None:
        table, deaths = self.table, []
        num_dead = len(table.dead)
        killed = await self._werewolves(number)
        for seer in table.alive_with("seer"):
            await self._check(number, seer)
        for witch in table.alive_with("witch"):
            killed, poisoned = await self._brew(number, witch, killed)
            deaths += [poisoned] if poisoned else []
        deaths += [killed] if killed and killed not in deaths else []
        for name in deaths:
            if name in table.alive:  # the hunter may have taken this player along
                await self._die(name)
        died = table.dead[num_dead:]
        news = f"{' and '.join(died)} died" if died else "nobody died"
        await self._announce(f"Day {number}: {news}. Alive: {', '.join(table.alive)}.")

    async def _werewolves(self, number: int) -> str | None:
        """Whom the werewolves kill: they hear each other, and most choices count."""
        wolves, victims = (
            self.table.alive_with(WEREWOLF),
            [name for name in self.table.alive if self.table.roles[name] != WEREWOLF],
        )
        text = f"Night {number}: werewolves, choose whom to kill: {', '.join(victims)}."
        pack = [self.players[wolf] for wolf in wolves]
        async with MsgHub(pack, announcement=Msg(MODERATOR, text, "user")):
            for wolf in pack:
                await wolf()
        return self.table.most_chosen([wolf.last_turn.choose for wolf in pack], victims)

    async def _check(self, number: int, seer: str) -> None:
        others = [name for name in self.table.alive if name != seer]
        text = f"Night {number}: seer, choose whom to check: {', '.join(others)}."
        checked = await self._ask(seer, text, others)
        if checked:
            found = "a werewolf" if self.table.roles[checked] == WEREWOLF else "no werewolf"
            await self.players[seer].observe(Msg(MODERATOR, f"{checked} is {found}.", "user"))

    async def _brew(
        self, number: int, witch: str, killed: str | None
    ) -> tuple[str | None, str | None]:
        """Whom the werewolves still kill, and whom the witch poisons."""
        if killed and "save" in self.potions:
            text = f"Night {number}: witch, {killed} was killed. Choose {killed} to save."
            if await self._ask(witch, text, [killed]):
                self.potions.remove("save")
                return None, None
        if "poison" in self.potions:
            others = [name for name in self.table.alive if name != witch]
            text = f"Night {number}: witch, choose whom to poison, or null: {', '.join(others)}."
            poisoned = await self._ask(witch, text, others)
            if poisoned:
                self.potions.remove("poison")
                return killed, poisoned
        return killed, None

    async def _day(self, number: int) -> None:
        table = self.table
        async with MsgHub(self._living()) as hub:
            await hub.broadcast(Msg(MODERATOR, "Everybody speaks once.", "user"))
            for player in self._living():
                await player()
            hub.set_auto_broadcast(False)
            text = f"Choose whom to vote out: {', '.join(table.alive)}."
            await hub.broadcast(Msg(MODERATOR, text, "user"))
            for player in self._living():
                await player()
        num_dead = len(table.dead)
        votes = {player.name: player.last_turn.choose for player in self._living()}
        out = table.most_chosen(
            [choice for name, choice in votes.items() if choice != name], table.alive
        )
        if out:
            await self._die(out)
        news = f"{out or 'Nobody'} is voted out"
        if taken := table.dead[num_dead + 1 :]:
            news += f" and takes {taken[0]} along"
        await self._announce(f"{news}. Alive: {', '.join(table.alive)}.")

    async def _die(self, name: str) -> None:
        """A death; the hunter takes somebody along."""
        table = self.table
        table.dead.append(name)
        if table.roles[name] == "hunter" and table.alive:
            text = f"You die. Hunter, choose whom to take with you: {', '.join(table.alive)}."
            taken = await self._ask(name, text, table.alive)
            if taken:
                table.dead.append(taken)

    async def _announce(self, text: str) -> None:
        for player in self._living():
            await player.observe(Msg(MODERATOR, text, "user"))
