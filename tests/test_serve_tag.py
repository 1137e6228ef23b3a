"""A server that follows a stage: the tag moves, the model moves, and no request is lost."""

import threading

import published
import serving
import tiny_bundle

from mmpipe import bundle, paths
from mmpipe.commands.serve import _resolver


def test_a_stage_that_moves_takes_over_without_a_lost_request(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_bundle.write(tmp_path / "tiny")
    files = bundle.read(tmp_path / "tiny" / paths.BUNDLE).files
    work = published.repository(tmp_path / "work")
    for number in (1, 2):
        told = {**files, "metrics.json": f'{{"n": {number}}}\n'.encode()}
        published.publish(work, f"v1.{number}.0", number, push=False, files=told)
    published.assign(work, "prod", 1, "v1.1.0")
    answers, stop = [], threading.Event()

    def ask(server):
        while not stop.is_set():
            answers.append(server.predict({"text": "a low one"}))

    with serving.running(tmp_path, resolve=_resolver("fusion#prod", str(work))) as server:
        assert server.predict({"text": "one"}).json()["model"] == "fusion@v1.1.0"
        asking = threading.Thread(target=ask, args=[server])
        asking.start()
        published.assign(work, "prod", 2, "v1.2.0")
        moved = serving.until(lambda: server.client.get("/healthz").json()["model"] == "fusion@v1.2.0", 30)
        before = len(answers)
        serving.until(lambda: len(answers) > before + 3)
        stop.set()
        asking.join()
    assert moved and {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model"] for answer in answers} == {"fusion@v1.1.0", "fusion@v1.2.0"}
