"""What does the person at the terminal see while the cluster is worked on?"""

import sys
import time
from contextlib import contextmanager


class ClusterError(Exception):
    """An error with its location and what to do about it."""


def say(text):
    """Print one line at once, on stderr, so that stdout stays a program's output."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(what, expect=""):
    """Announce a step with how long it will take, then say how long it took."""
    say(f"- {what}" + (f" ({expect})" if expect else ""))
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    if took >= 1:
        say(f"  done in {duration(took)}")


def duration(seconds):
    """Render seconds as a person would say them."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def wait_until(check, what, seconds, every=0.2, meanwhile=None):
    """Poll `check` until it is true; `meanwhile` may raise when waiting is pointless."""
    deadline = time.monotonic() + seconds
    while not check():
        if meanwhile:
            meanwhile()
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} did not happen within {seconds} s")
        time.sleep(every)
