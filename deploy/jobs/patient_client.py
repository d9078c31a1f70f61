"""Ray's client of the Jobs API, which waits without end for a silent one, with deadlines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import requests
from ray.job_submission import JobSubmissionClient

CONNECT_S = 3.0
ANSWER_S = 30.0
UPLOAD_S = 300.0
"""For the head to have taken and unpacked what is shipped."""
SILENCE_S = 60.0
"""A job that prints nothing for so long is asked after: it may be quiet, or out of sight."""


class PatientClient(JobSubmissionClient):  # type: ignore[misc]
    """Waits for each answer, and for each line of a log, for so long and no longer."""

    def _do_request(self, method: str, endpoint: str, **given: Any) -> requests.Response:
        answer_s = UPLOAD_S if method == "PUT" else ANSWER_S
        given.setdefault("timeout", (CONNECT_S, answer_s))
        try:
            response: requests.Response = super()._do_request(method, endpoint, **given)
        except requests.exceptions.Timeout as error:
            raise TimeoutError(f"it did not answer {method} {endpoint} in time") from error
        return response

    async def lines(self, identity: str, still_there: Callable[[], bool]) -> AsyncIterator[str]:
        """Yield a job's output as it comes; end with the job.

        After each `SILENCE_S` without any, `still_there` is asked, on a thread of its own; it says
        whether the job goes on, and may raise.
        """
        said: AsyncGenerator[str, None]
        async with contextlib.aclosing(self.tail_job_logs(identity)) as said:
            while True:
                following = asyncio.ensure_future(anext(said))
                try:
                    while not (await asyncio.wait([following], timeout=SILENCE_S))[0]:
                        if not await asyncio.to_thread(still_there):
                            return
                    yield following.result()
                except StopAsyncIteration:
                    return
                finally:
                    # Before the generator can be closed, nothing may wait for it.
                    following.cancel()
                    await asyncio.wait([following])
