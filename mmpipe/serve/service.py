"""One request's way to its answer: a place, its body, its files decoded, its turn before the model."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from mmpipe.errors import SampleError
from mmpipe.predict import Prediction, Predictor
from mmpipe.serve import uploads
from mmpipe.serve.batcher import Batcher, Question
from mmpipe.serve.body import Body
from mmpipe.serve.current import Current
from mmpipe.serve.decoding import Decoders
from mmpipe.serve.limits import Limits
from mmpipe.serve.metrics import Metrics
from mmpipe.serve.refused import Refused
from mmpipe.serve.uploads import Upload

Result = TypeVar("Result")


class Service:
    """What the routes ask. Between `running` it has its processes, threads and tasks."""

    def __init__(self, current: Current, limits: Limits) -> None:
        self.current = current
        self.limits = limits
        self.inside = 0
        self._held = 0
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.batcher = Batcher(
            max_batch=limits.max_batch,
            max_wait_s=limits.max_wait_s,
            max_queue=limits.max_requests,
            coming=lambda: self.inside,
            observe=lambda size: self.metrics.batch(size),
        )
        self.metrics = Metrics(queue=lambda: len(self.batcher), inside=lambda: self.inside)
        self.decoders: Decoders | None = None
        current.changed = self._changed
        self._changed("started")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start what answers; at the end stop it."""
        self.decoders = Decoders(
            self.limits.workers,
            timeout_s=self.limits.decode_s,
            memory_bytes=self.limits.worker_bytes,
            lost=self.metrics.decoder_lost,
        )
        work = self.batcher.run(), self.current.watch(self.limits.poll_s)
        self._tasks = [asyncio.create_task(one) for one in work]
        try:
            yield
        finally:
            self._stopping = True
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            self.batcher.close()
            self.decoders.close()

    @property
    def state(self) -> str:
        """`ready`, `starting`, `stopping`, or `broken` by a mistake of ours that only a new start mends."""
        if self._stopping:
            return "stopping"
        if self.current.predictor is None or not self._tasks:
            return "starting"
        return "broken" if any(task.done() for task in self._tasks) else "ready"

    @property
    def predictor(self) -> Predictor:
        """The model that answers. Raises Refused `http-busy` where nothing does."""
        if self.state != "ready" or self.current.predictor is None:
            raise Refused("http-busy", f"the server is {self.state}")
        return self.current.predictor

    async def predict(self, request: Request, *, explain: bool) -> Prediction:
        """The answer to a request. Raises Refused, and ClientDisconnect where nobody waits for it."""
        held = 0

        def take(size: int) -> None:
            nonlocal held
            held += size
            self._held += size
            if self._held > self.limits.max_held_bytes:
                raise Refused("http-busy", "too many bytes of uploads are held at this moment")

        body = Body(request.receive, take)
        try:
            with self._place():
                return await self._predict(request, body, explain=explain)
        except SampleError as error:
            raise Refused(error.code, error.what) from None
        except asyncio.CancelledError:  # by uvicorn alone, at the end of its patience with those who linger
            raise Refused("http-busy", "the server is stopping") from None
        finally:
            self._held -= held

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self.inside >= self.limits.max_requests:
            raise Refused("http-busy", f"{self.inside:,} predictions are under way")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def _predict(self, request: Request, body: Body, *, explain: bool) -> Prediction:
        _ = self.predictor
        try:
            async with asyncio.timeout(self.limits.request_s):
                upload = await uploads.read(request, body, self.limits)
                return await _unless_gone(request, self._answer(upload, explain=explain))
        except TimeoutError:
            what = f"there was no answer after {self.limits.request_s:g} s"
            raise Refused("http-late", what) from None

    async def _answer(self, upload: Upload, *, explain: bool) -> Prediction:
        predictor, sample = self.predictor, upload.sample
        if upload.history and predictor.turns is None:
            raise Refused("http-history", f"{predictor.name} was trained without earlier turns")
        given = [m for m in ("audio", "image", "text") if getattr(sample, m) is not None]
        if not set(given) & set(predictor.modalities):
            got = " and ".join(given) or "nothing"
            raise Refused("row-empty", f"got {got}, the model takes {', '.join(predictor.modalities)}")
        files: dict[str, bytes] = {
            m: getattr(sample, m) for m in given if m != "text" and m in predictor.modalities
        }
        features = {}
        if files:
            assert self.decoders is not None
            settings = predictor.bundle.preprocessing
            features = await asyncio.wrap_future(self.decoders.extract(files, settings))
        return await self.batcher.ask(Question(predictor, features, upload.dialogue, explain))

    def _changed(self, result: str) -> None:
        if result != "started":
            self.metrics.reloaded(result)
        if self.current.predictor is not None:
            self.metrics.model(self.current.predictor.name, self.current.predictor.bundle.digest)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result, unless the client hangs up first: then the work is cancelled wherever it is."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        del task, gone  # an error of the task holds this frame, which would hold the task: a circle
