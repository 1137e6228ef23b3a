"""Tables and words that a flow run leaves in the UI; outside of a run, nothing."""

from typing import Any

from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from flows import artifacts


async def table(key: str, rows: list[dict[str, Any]], *, words: str) -> None:
    """A table, a dict a row; `words` say what it is."""
    if artifacts.in_run():
        await artifacts.deliver(acreate_table_artifact(rows, key=key, description=words))


async def markdown(key: str, text: str, *, words: str) -> None:
    """A page in Markdown; `words` say what it is."""
    if artifacts.in_run():
        await artifacts.deliver(acreate_markdown_artifact(text, key=key, description=words))
