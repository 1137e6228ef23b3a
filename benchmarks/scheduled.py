"""A schedule every minute on the stamps demo: what each scheduled run did, and pictures of the UI.

    python benchmarks/scheduled.py --pictures /tmp/pictures     # 15 to 25 minutes on 2 cores

A workspace with 85 % of the stamps and a model of two epochs as its champion. Then, in turn: nothing changes;
the other stamps land; a person commits more epochs, then a useless learning rate, then an impossible one.
Prints a row for each run, the seconds of a run without news beside `dvc repro` without news, and the alarms.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from scheduled_server import Run, Server, photograph, receiver, ui, until
from scheduled_workspace import change, commit, drop, execute, prepare, without_news


def main() -> None:
    """Make the workspace, schedule, change things, look."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=Path, help="folder for screenshots of the UI; needs chromium")
    parser.add_argument("--epochs", type=int, default=40, help="of the better model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "w")
        later = prepare(root)
        plain = without_news(root)
        print(f"{len(later)} stamps land later\n", flush=True)
        with receiver() as (webhook, alarms), ui(root, webhook) as server:
            found = scenario(root, server, later, options.epochs)
            print_runs(found)
            ours = found["nothing changed"]["total_run_time"]
            print(f"\nno news: a scheduled run {ours:.1f} s, `dvc repro` {plain:.1f} s")
            until(lambda: alarms, "alarm")
            print("\nalarms: " + "; ".join(alarm["subject"] for alarm in alarms))
            if options.pictures:
                options.pictures.mkdir(parents=True, exist_ok=True)
                photograph(server, found, options.pictures, Path(scratch, "profile"))


def scenario(root: Path, server: Server, later: list[Any], epochs: int) -> dict[str, Run]:
    """Change one thing after the other, each time wait for the scheduled run that shows it."""
    wishes = root.parent / "wishes.json"
    wishes.write_text('{"landing": "landing"}')
    execute(root, "mmpipe", "schedule", "--cron", "* * * * *", "--options", str(wishes))
    found = {"nothing changed": server.wait("Unchanged")}
    drop(root)
    found[f"{len(later)} stamps landed"] = server.wait("Refused", "Promoted")
    for what, key, value, names in (
        (f"train.epochs: {epochs}", "train.epochs", epochs, ("Promoted", "Refused")),
        ("train.lr: 1e-7", "train.lr", 1e-7, ("Refused", "Promoted")),
        ("train.lr: 1e30", "train.lr", 1e30, ("Failed",)),
    ):
        change(root, key, value)
        commit(root, what)
        found[what] = server.wait(*names)
        if "lr" in what:
            change(root, "train.lr", 0.002)
    execute(root, "mmpipe", "schedule", "pause")
    return found


def print_runs(found: dict[str, Run]) -> None:
    """A row a run."""
    print("| what changed | the run ended as | s | because |\n|---|---|---|---|")
    for what, run in found.items():
        state = run["state"]
        words = " ".join((state["message"] or "").split())[:140].replace("|", "/")
        print(f"| {what} | {state['name']} | {run['total_run_time']:.0f} | {words} |")


if __name__ == "__main__":
    main()
