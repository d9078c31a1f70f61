"""How signals ask a run to stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

WAITING = """
import sys, time
from deploy.signals import StopRequest
with StopRequest() as stop:
    print("ready", flush=True)
    while not stop:
        time.sleep(0.01)
    print("noted", flush=True)
    time.sleep(float(sys.argv[1]))
sys.exit(stop.exit_code)
"""


def waiting(seconds_after: float) -> subprocess.Popen[str]:
    """Return a process that is ready for signals and stops so long after the first."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(seconds_after)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_request_that_arrives_as_two_signals_still_ends_in_order(number: int) -> None:
    process = waiting(0.2)
    assert process.stdout is not None
    process.send_signal(number)
    assert process.stdout.readline() == "noted\n"
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert process.communicate()[1] == ""


def test_a_second_request_ends_at_once_and_says_so() -> None:
    process = waiting(600.0)
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "noted\n"
    time.sleep(1.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert process.communicate()[1] == "repertory: ended at once, without a last checkpoint\n"
