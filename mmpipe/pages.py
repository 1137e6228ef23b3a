"""A template of the package, filled: one HTML page in which the words of strangers are escaped."""

from collections.abc import Callable, Mapping
from typing import Any

import jinja2

from mmpipe import __version__
from mmpipe.embed import visible


def render(template: str, filters: Mapping[str, Callable[..., Any]] | None = None, /, **values: Any) -> str:
    """The page of a file in `mmpipe/templates`; a name in it that has no value is an error.

    Every template also has `version`, mmpipe's own, and the filter `visible`; `filters`: more of these.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmpipe"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, **(filters or {})}
    return environment.get_template(template).render(version=__version__, **values)
