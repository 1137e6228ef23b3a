"""What steps print, into the log of the run that they belong to."""

import logging

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


def logger() -> Log:
    """The log of the task run or flow run that this is called in; outside of any, an ordinary one."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("flows")


def tell(step: str, line: str) -> None:
    """One line of a step."""
    logger().info("%s | %s", step, line)
