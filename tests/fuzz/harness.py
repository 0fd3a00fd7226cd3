"""Damage to files and options, and one way to run a command on what is damaged.

A fuzz test mutates a good input, calls ``run`` and looks at the ``Outcome``: a command ends with 0 or with one error
that says a way out, never with a traceback, and soon. What it accepts must give the number of an independent reader.
"""

import contextlib
import copy
import io
import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longtail.cli import main

#: Values that stand where others should.
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    1.5,
    -0.5,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    10**30,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "1",
    "x",
    "ä" * 300,
    "\u0000",
    "../..",
    [],
    {},
    [[]],
    [None],
    [1, 2],
    [1, 2, 3, 4, 5],
    {"a": 1},
)


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Args:
        code: Its exit code.
        out: What it printed.
        err: What it wrote to stderr.
    """

    code: int
    out: str
    err: str

    @property
    def accepted(self) -> bool:
        return self.code == 0

    @property
    def warned(self) -> bool:
        return "warning:" in self.err


def run(words: list[str], seconds: float = 120.0) -> Outcome:
    """Run a command in this process; any exception of its own is raised, and so is a hang.

    Args:
        words: Words after ``longtail``.
        seconds: Time after which it counts as hanging; the first run imports, on a machine that may be busy.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _alarm(seconds):
        try:
            code = main(words)
        except SystemExit as end:  # of the parser
            code = int(end.code or 0)
    outcome = Outcome(code, out.getvalue(), err.getvalue())
    assert code in (0, 2), f"exit code {code}\n{outcome.err}"
    if not outcome.accepted:
        assert "error: " in outcome.err and "  fix: " in outcome.err, outcome.err
    assert "Traceback" not in outcome.err, outcome.err
    return outcome


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"no end after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def mutated(value: Any, rng: random.Random) -> tuple[Any, str]:
    """A copy of JSON values with one change at a random place, and a word on the change."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return rng.choice(HOSTILE), "all"
    # every key as often as another, however many records have it
    by_name: dict[str, list[tuple[Any, Any]]] = {}
    for holder, key in places:
        by_name.setdefault(key if isinstance(key, str) else "[]", []).append((holder, key))
    name = rng.choice(sorted(by_name))
    holder, key = rng.choice(by_name[name])
    what = rng.choice(("replace", "replace", "replace", "remove", "repeat", "shift"))
    if what == "remove":
        del holder[key]
    elif what == "repeat" and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif what == "shift" and type(holder[key]) in (int, float):
        holder[key] += rng.choice((1, -1, 0.5, 1000, 2**53))
    else:
        what = "replace"
        holder[key] = copy.deepcopy(rng.choice(HOSTILE))
    return value, f"{what} {name}"


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder with a key or an index, however deep."""
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from _places(item)


def damaged(text: str, rng: random.Random) -> tuple[bytes, str]:
    """Bytes of a text after one damage to the file, and a word on the damage."""
    data = text.encode()
    place = rng.randrange(len(data)) if data else 0
    kinds: dict[str, Callable[[], bytes]] = {
        "cut": lambda: data[:place],
        "byte order mark": lambda: b"\xef\xbb\xbf" + data,
        "utf-16": lambda: text.encode("utf-16"),
        "latin-1": lambda: text.encode("latin-1", errors="replace") + "é".encode("latin-1"),
        "one byte": lambda: data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :],
        "null byte": lambda: data[:place] + b"\0" + data[place:],
        "empty": lambda: b"",
        "twice": lambda: data + data,
        "deep": lambda: b"[" * 100_000,
    }
    kind = rng.choice(sorted(kinds))
    return kinds[kind](), kind


def write_mutated(path: Path, value: Any, rng: random.Random) -> str:
    """Write JSON values with one change, or one damage to the file; returns a word on it."""
    if rng.random() < 0.15:
        data, word = damaged(json.dumps(value), rng)
        path.write_bytes(data)
        return word
    changed, word = mutated(value, rng)
    path.write_text(json.dumps(changed))
    return word


@dataclass
class Tally:
    """Outcomes by kind of damage, for the closing line of a test."""

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, word: str, outcome: Outcome) -> None:
        (self.accepted if outcome.accepted else self.refused)[word] += 1

    def __str__(self) -> str:
        return f"{self.accepted.total()} accepted, {self.refused.total()} refused, 0 tracebacks"
