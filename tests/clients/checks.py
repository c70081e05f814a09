"""Counts what holds and what does not: one sentence a check, one plain line at the end."""

import contextlib
import sys
import time
import traceback


class Skipped(Exception):
    """Raised inside a check that cannot be made here; the text says why."""


class Checks:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    @contextlib.contextmanager
    def that(self, sentence):
        """The block is one check. It passes unless it raises; later checks go on either way."""
        try:
            yield
        except Skipped as reason:
            self.skipped += 1
            print(f"  skipped: {sentence}: {reason}")
        except Exception as problem:  # a check may fail in any way
            self.failed += 1
            where = traceback.extract_tb(problem.__traceback__)[-1]
            for frame in traceback.extract_tb(problem.__traceback__):
                if "/clients/" in frame.filename and not frame.filename.endswith("checks.py"):
                    where = frame
            text = str(problem) or where.line
            print(f"  FAILED:  {sentence}\n           line {where.lineno}: {type(problem).__name__}: {text}")
        else:
            self.passed += 1
            print(f"  ok:      {sentence}")

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        sys.exit(1 if self.failed else 0)


def same(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, wanted {wanted!r}")


def contains(whole, part):
    if part not in whole:
        raise AssertionError(f"{part!r} is not in {whole!r}")


def eventually(probe, seconds=20):
    """Asks until the answer is true; the last answer is in the error."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r} after {seconds} s")
        time.sleep(0.1)
