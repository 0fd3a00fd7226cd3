import pytest

from longtail import progress
from longtail.progress import with_progress


def test_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1.0)
    assert list(with_progress("ab", 2, "reading")) == ["a", "b"]
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("reading: 1 of 2, ") and second.startswith("reading: 2 of 2, ")
    assert second.endswith(" a second")
    assert list(with_progress(["ab", "c"], 3, "reading", size=len)) == ["ab", "c"]
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("reading: 2 of 3, ") and second.startswith("reading: 3 of 3, ")
    assert list(with_progress("ab", 2, "reading", shown=False)) == ["a", "b"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shown", [True, False])
def test_a_bar_on_a_terminal_passes_everything_through(shown, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(with_progress(iter(range(3)), 3, "reading", shown=shown)) == [0, 1, 2]
    assert ("reading" in capsys.readouterr().err) == shown
