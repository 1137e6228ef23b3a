"""The order of events in the server: a moment's patience for the one before, where Prefect has 15 minutes.

A scheduled run's first event follows one that Prefect 3.8.8 never sends (runs are put in by the scheduler in
bulk), so that every alarm about a scheduled run came a quarter of an hour late.
"""

import asyncio
import time

from prefect.server.events.ordering import memory
from prefect.server.events.schemas.events import ReceivedEvent

PATIENCE_S = 0.5


class CausalOrdering(memory.CausalOrdering):
    """Prefect's own for one process, but an event whose leader does not come is handled all the same."""

    async def wait_for_leader(self, event: ReceivedEvent) -> None:
        """Wait for the event that this one follows, but not for long."""
        until = time.monotonic() + PATIENCE_S
        while event.follows and event.follows != event.id and time.monotonic() < until:
            if await self.event_has_been_seen(event.follows):
                return
            await asyncio.sleep(PATIENCE_S / 10)
