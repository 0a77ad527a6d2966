"""AgentScope's client of DashScope with retries, under its import path in AgentJet."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from agentscope.model import DashScopeChatModel

from ajet.errors import EngineError

logger = logging.getLogger(__name__)


class RobustDashScopeChatModel(DashScopeChatModel):  # type: ignore[misc, unused-ignore]
    """`DashScopeChatModel` that makes a call again when it fails.

    Args:
        max_retries: further attempts.
        retry_delay_s: seconds before the first of them; each further delay is twice as long.
        *args: as for `DashScopeChatModel`.
        **settings: as for `DashScopeChatModel`.
    """

    def __init__(
        self, *args: Any, max_retries: int = 3, retry_delay_s: float = 1.0, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self._max_retries = max_retries
        self._retry_delay_s = retry_delay_s

    async def __call__(self, *args: Any, **request: Any) -> Any:
        """The answer of DashScope.

        Raises:
            EngineError: every attempt failed, so that the episode counts as an infrastructure
                failure and not as the workflow's.
        """
        for attempt in range(self._max_retries + 1):
            try:
                return await super().__call__(*args, **request)
            except (TimeoutError, OSError, RuntimeError) as error:
                if attempt == self._max_retries:
                    raise EngineError(
                        f"DashScope gave no answer in {attempt + 1} attempts: {error}"
                    ) from error
                logger.warning("DashScope: attempt %d failed: %s", attempt + 1, error)
            await asyncio.sleep(self._retry_delay_s * 2**attempt)
        raise AssertionError("the last attempt returns or raises")
