"""A workspace's commit and its annotated version tag, written by hand as `mmpipe publish` writes it."""

import json

from workspace import Workspace

from mmpipe import bundle, paths

AUTHOR = {
    "GIT_AUTHOR_NAME": "An Author",
    "GIT_AUTHOR_EMAIL": "author@example.org",
    "GIT_COMMITTER_NAME": "An Author",
    "GIT_COMMITTER_EMAIL": "author@example.org",
}
"""For a workspace's environment."""
ARTIFACT = "\nartifacts:\n  fusion:\n    path: models/fusion\n    type: model\n"


def publish(workspace: Workspace, version: str, **told: object) -> None:
    """Commit all that git does not ignore, and tag it; `told` replaces what the tag says."""
    pipeline = workspace.root / paths.PIPELINE
    if "artifacts:" not in pipeline.read_text():
        pipeline.write_text(pipeline.read_text() + ARTIFACT)
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--allow-empty", "--message", version)
    metrics = json.loads((workspace.root / paths.METRICS / "evaluate.json").read_bytes())
    fields = {
        "Bundle-SHA256": bundle.read(workspace.root / paths.BUNDLE).digest,
        "Metrics": json.dumps({name: metrics[name] for name in ("accuracy", "accuracy_low", "samples")}),
        **told,
    }
    lines = [f"fusion {version}: by hand", "", *(f"{key}: {value}" for key, value in fields.items())]
    workspace.run("git", "tag", "--annotate", f"fusion@{version}", "--message", "\n".join(lines))
