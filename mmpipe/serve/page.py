"""The page on which one tries the model: one file, nothing from outside, no script but its own."""

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib import resources

_BLOCKS = {kind: re.compile(f"<{kind}>(.*?)</{kind}>", re.DOTALL) for kind in ("script", "style")}


@dataclass(frozen=True)
class Page:
    """Its bytes, and the Content-Security-Policy under which exactly its own script and style run."""

    html: bytes
    policy: str


def load() -> Page:
    """Read the page of the package."""
    text = (resources.files("mmpipe") / "templates" / "serve.html").read_text("utf-8")
    allowed = {kind: " ".join(map(_hash, pattern.findall(text))) for kind, pattern in _BLOCKS.items()}
    policy = (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; "
        "connect-src 'self'; img-src blob: data:; media-src blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return Page(text.encode(), policy)


def _hash(block: str) -> str:
    digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
    return f"'sha256-{digest}'"
