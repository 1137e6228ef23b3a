"""Automations of the server: dead runs are marked as such; those that went wrong are told."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger
from prefect.events.actions import ActionTypes, ChangeFlowRunState, DoNothing, SendNotification
from prefect.events.schemas.automations import AutomationCore, Posture
from prefect.exceptions import ObjectNotFound

BLOCK = "mmpipe-alarm"
"""The name of the notification blocks, whatever their kinds: each is told."""
SILENT_S = 90
"""A run that says nothing for so long, at a heartbeat every 30 s, is dead."""
REFUSALS, REFUSED_WITHIN = 3, timedelta(days=30)
SUBJECT = "mmpipe: {{ flow.name }} {{ flow_run.name }}: {{ flow_run.state.name }}"
BODY = "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
KINDS = (
    "custom-webhook",
    "discord-webhook",
    "mattermost-webhook",
    "ms-teams-webhook",
    "opsgenie-webhook",
    "pager-duty-webhook",
    "sendgrid-email",
    "slack-webhook",
    "twilio-sms",
)
"""The blocks of Prefect that can notify, by their slugs."""
_RUN = "prefect.flow-run"


def automations(notify: Sequence[ActionTypes]) -> list[AutomationCore]:
    """All that there are; `notify` is what an alarm does; nothing, and it is only seen."""
    words = f"No sign of life for {SILENT_S} s."
    dead = ChangeFlowRunState(name=None, state=StateType.CRASHED, message=words, force=False)
    return [
        AutomationCore(
            name="mmpipe: dead runs are crashed",
            description="A run whose process is gone does not stay in Running.",
            trigger=EventTrigger(
                after={f"{_RUN}.heartbeat"},
                expect={f"{_RUN}.*"},
                match={"prefect.resource.id": f"{_RUN}.*"},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=SILENT_S),
            ),
            actions=[dead],
        ),
        _alarm("failed", notify),
        _alarm("crashed", notify),
        _alarm("late", notify),
        _alarm("drifted", notify),
        _alarm("refused", notify, threshold=REFUSALS, within=REFUSED_WITHIN),
    ]


async def ensure(webhook: str | None) -> None:
    """Create our automations, or replace those that differ; `webhook`: make the block that posts to it."""
    if webhook:
        await _save(webhook)
    notify = await _notifications()
    async with get_client() as client:
        for wanted in automations(notify):
            there = await client.read_automations_by_name(wanted.name)
            if [_content(old) for old in there] == [_content(wanted)]:
                continue  # a new one would have forgotten which runs it waits for
            for old in there:
                await client.delete_automation(old.id)
            await client.create_automation(wanted)


def _content(automation: AutomationCore) -> dict[str, Any]:
    """What makes two automations the same, whatever numbers the server gave them."""
    found = automation.model_dump(mode="json", include={"description", "trigger", "actions"})
    trigger = {key: sorted(v) if isinstance(v, list) else v for key, v in found["trigger"].items()}
    trigger.pop("id", None)
    return {**found, "trigger": trigger}


def _alarm(
    state: str, notify: Sequence[ActionTypes], *, threshold: int = 1, within: timedelta | None = None
) -> Any:
    return AutomationCore(
        name=f"mmpipe: alarm, {state}",
        description=f"Told after {threshold} in {within.days} days." if within else "Told each time.",
        trigger=EventTrigger(
            expect={f"{_RUN}.{state.capitalize()}"},
            match={"prefect.resource.id": f"{_RUN}.*"},
            posture=Posture.Reactive,
            threshold=threshold,
            within=within or timedelta(0),
        ),
        actions=list(notify) or [DoNothing()],
    )


async def _save(webhook: str) -> None:
    told = {"subject": "{{subject}}", "text": "{{body}}"}
    block = CustomWebhookNotificationBlock(
        name=BLOCK, url=webhook, json_data=told, headers=None, cookies=None
    )
    await _awaited(block.save(BLOCK, overwrite=True))


async def _notifications() -> list[ActionTypes]:
    """By the blocks of the user's choice; without any, alarms are only seen in the server's event feed."""
    told: list[ActionTypes] = []
    async with get_client() as client:
        for kind in KINDS:
            try:
                found = await client.read_block_document_by_name(BLOCK, kind)
            except ObjectNotFound:
                continue
            told.append(SendNotification(block_document_id=found.id, subject=SUBJECT, body=BODY))
    return told


async def _awaited(found: Any) -> Any:
    """Prefect's methods of two natures: a coroutine within an event loop."""
    return await found if hasattr(found, "__await__") else found
