"""Samples of several requests, put before the model together: one thread computes, batch after batch."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mmpipe.errors import SampleError
from mmpipe.predict import Prediction, Predictor
from mmpipe.serve.refused import Refused

Answer = Prediction | SampleError


@dataclass(frozen=True, eq=False)
class Question:
    """A sample: features of its files, its text as it came, and the model whose features they are."""

    predictor: Predictor
    features: Mapping[str, NDArray[Any]]
    text: str | None
    explain: bool


class Batcher:
    """`coming`: how many samples are on their way in all; nobody is waited for who is not."""

    def __init__(
        self,
        *,
        max_batch: int,
        max_wait_s: float,
        max_queue: int,
        coming: Callable[[], int],
        observe: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._coming = coming
        self._observe = observe
        self._queue: asyncio.Queue[tuple[Question, asyncio.Future[Prediction]]] = asyncio.Queue(max_queue)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    def __len__(self) -> int:
        return self._queue.qsize()

    async def ask(self, question: Question) -> Prediction:
        """The answer. Raises SampleError, Refused `http-busy` where too many wait already."""
        future: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((question, future))
        except asyncio.QueueFull:
            raise Refused("http-busy", f"{self._queue.maxsize:,} samples wait for the model") from None
        try:
            return await future
        finally:
            del future  # an error that it holds holds this frame: a circle

    async def run(self) -> None:
        """Answer for ever. Whoever gave up meanwhile is left out."""
        while True:
            batch = [(question, future) for question, future in await self._gather() if not future.done()]
            if batch:
                self._observe(len(batch))
                await self._answer(batch)

    def close(self) -> None:
        """End the thread after the batch it is at."""
        self._thread.shutdown()

    async def _gather(self) -> list[tuple[Question, "asyncio.Future[Prediction]"]]:
        """Whoever waits; then those who come in a short while, as long as somebody may."""
        batch = [await self._queue.get()]
        until = asyncio.get_running_loop().time() + self._max_wait_s
        while len(batch) < self._max_batch:
            if not self._queue.empty():
                batch.append(self._queue.get_nowait())
            elif self._coming() <= len(batch):
                break
            else:
                try:
                    async with asyncio.timeout_at(until):
                        batch.append(await self._queue.get())
                except TimeoutError:
                    break
        return batch

    async def _answer(self, batch: Sequence[tuple[Question, "asyncio.Future[Prediction]"]]) -> None:
        """A mistake of ours fails the sample that meets it, not those that share its batch."""
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, answers, [question for question, _ in batch])
        await asyncio.wait([work])
        error = work.exception()
        if error is not None and len(batch) > 1:
            for one in batch:
                await self._answer([one])
            return
        for place, (_, future) in enumerate(batch):
            if future.done():
                continue
            answer = error or work.result()[place]
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def answers(questions: Sequence[Question]) -> list[Answer]:
    """One an entry, in order: questions of one kind to one model are answered together."""
    found: dict[int, Answer] = {}
    groups: dict[tuple[int, bool], list[tuple[int, dict[str, NDArray[Any]]]]] = {}
    for place, question in enumerate(questions):
        try:
            features = _features(question)
        except SampleError as error:
            found[place] = SampleError(error.code, error.what)  # without the frames that it came through
            continue
        groups.setdefault((id(question.predictor), question.explain), []).append((place, features))
    for group in groups.values():
        places, features_of = zip(*group, strict=True)
        first = questions[places[0]]
        ask = first.predictor.explanations if first.explain else first.predictor.answers
        found |= dict(zip(places, ask(features_of), strict=True))
    return [found[place] for place in range(len(questions))]


def _features(question: Question) -> dict[str, NDArray[Any]]:
    """Those of the files, and that of the text, which needs no process of its own."""
    features = dict(question.features)
    preprocessor = question.predictor.preprocessor
    if question.text is not None and "text" in question.predictor.modalities:
        features["text"] = preprocessor.feature("text", question.text)
    some = {m: feature for m, feature in features.items() if len(feature)}
    if (refusal := preprocessor.lacks(some)) is not None:
        raise SampleError(refusal.code, refusal.what)
    return some
