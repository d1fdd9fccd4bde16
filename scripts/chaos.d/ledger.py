# The ledger: one line a check, printed as it is made: what was done, what was expected, what was seen.


class Ledger:
    def __init__(self):
        self.lines = []
        self.trial = ""

    def begin(self, letter, what):
        self.trial = letter
        print(f"\n{letter}. {what}", flush=True)

    def check(self, done, expected, seen, holds):
        self.lines.append(bool(holds))
        print(f"  {'ok  ' if holds else 'FAIL'} {done}: expected {expected}, seen {seen}", flush=True)
        return bool(holds)

    def within(self, done, seconds, limit):
        """A thing that had to happen in time; `seconds` is None when it never did."""
        return self.check(done, f"within {limit} s", "never" if seconds is None else f"{seconds:.1f} s", seconds is not None and seconds <= limit)

    @property
    def failures(self):
        return self.lines.count(False)
