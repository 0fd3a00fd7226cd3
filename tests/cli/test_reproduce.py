import shlex

import pytest

from longtail.cli import main
from longtail.settings import read_yaml
from support.fake_runs import make_results, write_run


@pytest.fixture
def words(tmp_path):
    """A table of seven runs on data that need not exist to be planned."""
    return ["reproduce", "medoe", "table-2", "--data", "nowhere", "--budget", "smoke", "--out", str(tmp_path / "out")]


def test_experiments_and_budgets_are_listed(capsys):
    assert main(["reproduce", "mec"]) == 0
    listed = capsys.readouterr().out
    assert all(word in listed for word in ("table-2a", "figure-4", "figure-5", "smoke", "paper"))


def test_a_dry_run_says_what_would_run_and_runs_nothing(words, tmp_path, capsys):
    assert main([*words, "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert said.count("missing") == 7 and "7 of 7 runs to make, 44 images" in said
    assert not (tmp_path / "out").exists()


def test_commands_are_one_line_each_for_a_queue(words, tmp_path, capsys):
    assert main([*words, "--commands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    for line in lines:
        typed = shlex.split(line)
        assert typed[:3] == ["longtail", "train", "segmentation"]
        settings = read_yaml(typed[typed.index("--config") + 1])
        assert settings["data"]["dataset"] == "nowhere"


def test_what_is_there_is_shown_where_a_run_failed(words, capsys):
    """The data set does not exist: the run fails with the way out, and nothing is called a result."""
    words[2] = "table-6"
    assert main(words) != 0
    said = capsys.readouterr()
    assert "nowhere" in said.out and "runs failed" in said.err and "written" not in said.out


def test_unknown_experiments_are_refused_with_the_known_ones(capsys):
    assert main(["reproduce", "medoe", "table-99", "--data", "nowhere"]) == 2
    assert "table-6" in capsys.readouterr().err


def test_show_trains_nothing(words, tmp_path, capsys):
    assert main([*words, "--show"]) == 2
    assert "no run has results" in capsys.readouterr().err
    folder = tmp_path / "out" / "medoe" / "nowhere" / "smoke" / "deeplabv3plus_r50c-baseline-seed0"
    results = make_results("baseline")
    write_run(folder, results)
    assert main([*words, "--show"]) == 0
    said = capsys.readouterr().out
    assert f"{100 * results.predictions['baseline'].overall['mIoU']:.1f}" in said and "table-2-" in said
    assert "6 runs have no results yet" in next((folder.parent / "tables").glob("*.md")).read_text()
