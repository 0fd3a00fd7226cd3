import io

import pytest
from rich.console import Console as RichConsole

from longtail.training.console import Console, duration, percent, table


def test_plain_lines_without_a_terminal_and_in_the_log(tmp_path, capsys):
    console = Console(log=tmp_path / "train.log")
    with console.progress("experts", total=100, done=10) as progress:
        progress.advance(20)
        progress.report(20, {"loss": 1.5, "ce": 1.0, "auxiliary": 0.5}, lr=0.01)
    console.close()
    said = capsys.readouterr().out
    assert "experts  20/100  loss 1.5000  lr 1.00e-02" in said and "ce 1" in said and "0:0" in said and "left" in said
    assert (tmp_path / "train.log").read_text() == said


def test_a_line_of_progress_fits_a_hundred_columns(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("longtail.training.console.time.perf_counter", lambda: now[0])
    losses = {"loss": 123.4567, **{f"expert_{i}.{term}": 1.23456 for i in (1, 2, 3) for term in ("ce", "l2", "kl")}}
    with Console().progress("experts", total=80_000) as progress:
        now[0] = 80_000.0
        progress.report(40_000, losses, lr=0.01, memory_gb=12.34)
    (line,) = capsys.readouterr().out.splitlines()
    assert len(line) <= 100 and "0.50 it/s  12.3 GB  22:13:20 left" in line and line.endswith("left")


def test_a_bar_on_a_terminal_and_plain_lines_in_the_log(tmp_path):
    console = Console(log=tmp_path / "train.log")
    screen = io.StringIO()
    console.terminal = RichConsole(file=screen, force_terminal=True, width=100)
    with console.progress("experts", total=100) as progress:
        progress.report(50, {"loss": 1.5}, lr=0.01)
        progress.bar.refresh()
    console.close()
    assert "50/100" in screen.getvalue() and "loss 1.5000" in screen.getvalue()
    assert (tmp_path / "train.log").read_text().startswith("experts  50/100")


def test_a_quiet_console_says_nothing_but_keeps_the_log(tmp_path, capsys):
    console = Console(speak=False, log=tmp_path / "train.log")
    console.say(table("", ["class", "IoU"], [("road", percent(0.5)), ("pole", percent(None))]))
    console.close()
    assert capsys.readouterr().out == ""
    assert "50.00" in (tmp_path / "train.log").read_text()


def test_validation_does_not_slow_the_speed_down(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("longtail.training.console.time.perf_counter", lambda: now[0])
    with Console(speak=False).progress("train", 10) as progress:
        now[0] = 2.0
        with progress.pause():
            now[0] = 100.0
        assert progress.speed(4) == pytest.approx(2.0)


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0:00"), (75, "1:15"), (3675, "1:01:15")])
def test_durations(seconds, words):
    assert duration(seconds) == words
