"""Batches: who shares one, who is left out of it, and that one mistake fails one sample."""

import asyncio

import numpy as np
import pytest
import tiny_bundle

from mmpipe import paths
from mmpipe.errors import SampleError
from mmpipe.predict import Explanation, load
from mmpipe.serve.batcher import Batcher, Question
from mmpipe.serve.refused import Refused


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    tiny_bundle.write(root)
    return load(root / paths.BUNDLE, device="cpu")


async def settled(*asking):
    """Let them put their questions."""
    tasks = [asyncio.ensure_future(one) for one in asking]
    await asyncio.sleep(0)
    return tasks


def play(scene, **options):
    """Run a scene with a batcher; the sizes of its batches."""
    sizes = []

    async def whole():
        settings = {"max_batch": 8, "max_wait_s": 0.01, "max_queue": 10, "coming": lambda: 0}
        batcher = Batcher(**settings | options, observe=sizes.append)
        try:
            await scene(batcher)
        finally:
            batcher.close()

    asyncio.run(asyncio.wait_for(whole(), 30))
    return sizes


async def answered(batcher, tasks):
    """Run until all of them are."""
    running = asyncio.ensure_future(batcher.run())
    try:
        return await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        running.cancel()


def test_those_who_wait_share_batches_and_get_their_own(predictor):
    words = ["one", "two", "a low one", "spoken words"] * 2 + ["high and thin"]

    async def scene(batcher):
        tasks = await settled(*(batcher.ask(Question(predictor, {}, word, False)) for word in words))
        assert len(batcher) == 9
        for word, answer in zip(words, await answered(batcher, tasks), strict=True):
            alone = predictor.predict(text=word)
            assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-5)

    assert play(scene) == [8, 1]


def test_nobody_waits_for_those_who_do_not_come(predictor):
    async def scene(batcher):
        tasks = await settled(batcher.ask(Question(predictor, {}, "one", False)))
        await answered(batcher, tasks)

    assert play(scene, max_wait_s=3600, coming=lambda: 1) == [1]


def test_somebody_who_comes_is_waited_for(predictor):
    async def scene(batcher):
        running = asyncio.ensure_future(batcher.run())
        first = await settled(batcher.ask(Question(predictor, {}, "one", False)))
        await asyncio.sleep(0.05)
        second = await settled(batcher.ask(Question(predictor, {}, "two", False)))
        await asyncio.gather(*first, *second)
        running.cancel()

    assert play(scene, max_wait_s=3600, coming=lambda: 2) == [2]


def test_not_for_ever(predictor):
    async def scene(batcher):
        tasks = await settled(batcher.ask(Question(predictor, {}, "one", False)))
        await answered(batcher, tasks)

    assert play(scene, max_wait_s=0.01, coming=lambda: 99) == [1]


def test_whoever_gave_up_is_left_out(predictor):
    async def scene(batcher):
        tasks = await settled(*(batcher.ask(Question(predictor, {}, "one", False)) for _ in range(3)))
        tasks[1].cancel()
        await asyncio.sleep(0)
        answers = await answered(batcher, tasks)
        assert isinstance(answers[1], asyncio.CancelledError)
        assert answers[0].label == answers[2].label

    assert play(scene) == [2]


def test_a_full_queue_refuses(predictor):
    async def scene(batcher):
        tasks = await settled(*(batcher.ask(Question(predictor, {}, "one", False)) for _ in range(12)))
        answers = await answered(batcher, tasks)
        refused = [one for one in answers if isinstance(one, Refused)]
        assert [one.code for one in refused] == ["http-busy"] * 2
        assert answers[-2:] == refused

    assert sum(play(scene)) == 10


def test_explanations_and_predictions_share_a_batch(predictor):
    async def scene(batcher):
        kinds = [True, False, True]
        tasks = await settled(*(batcher.ask(Question(predictor, {}, "one", kind)) for kind in kinds))
        assert [isinstance(one, Explanation) for one in await answered(batcher, tasks)] == kinds

    assert play(scene) == [3]


def test_one_bad_text_and_one_mistake_fail_alone(predictor):
    wrong = {"audio": np.zeros((9, 3), np.float16)}  # of other mel bands than the model's

    async def scene(batcher):
        questions = [
            Question(predictor, {}, "one", False),
            Question(predictor, {}, "a\0b", False),
            Question(predictor, wrong, None, False),
            Question(predictor, {}, "two", False),
        ]
        tasks = await settled(*(batcher.ask(question) for question in questions))
        first, bad, mistaken, last = await answered(batcher, tasks)
        assert isinstance(bad, SampleError) and bad.code == "text-control"
        assert isinstance(mistaken, (RuntimeError, ValueError))
        assert first.label == predictor.predict(text="one").label
        assert last.label == predictor.predict(text="two").label

    assert play(scene) == [4]


def test_features_go_to_the_model_that_they_are_of(predictor, tmp_path):
    tiny_bundle.write(tmp_path, modalities=["text"])
    other = load(tmp_path / paths.BUNDLE, device="cpu", name="other")

    async def scene(batcher):
        models = [predictor, other, predictor]
        tasks = await settled(*(batcher.ask(Question(model, {}, "one", False)) for model in models))
        answers = await answered(batcher, tasks)
        assert [one.bundle_sha256 for one in answers] == [model.bundle.digest for model in models]

    assert play(scene) == [3]
