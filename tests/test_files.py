import pytest

from longtail.errors import ConfigError
from longtail.files import make_folder, replace_file, write_text
from longtail.metrics.results import Results
from longtail.reports.html import write_report
from support.fake_runs import make_results, write_run


def test_written_whole_into_a_new_folder(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "ä")
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "ä"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_what_fails_leaves_the_old_file_and_no_part(tmp_path):
    write_text(tmp_path / "a.txt", "old")

    def torn(path):
        path.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "a.txt", torn)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_one_error_names_path_and_reason(tmp_path):
    (tmp_path / "file").write_text("")
    results = make_results("medoe", 5)
    run = write_run(tmp_path / "run", results)
    for write in (
        lambda: write_text(tmp_path / "file" / "x", ""),
        lambda: make_folder(tmp_path / "file" / "x"),
        lambda: results.save(tmp_path / "file" / "x"),
        lambda: write_report([run], tmp_path / "file" / "x"),
    ):
        with pytest.raises(ConfigError, match=r"cannot write .*file/x.*: (Not a dir|File exists).*\n.*free some"):
            write()


def test_a_full_disk_leaves_no_half_report(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", make_results("medoe", 5))

    def full(self, text, **options):
        self.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "write_text", full)
        with pytest.raises(ConfigError, match="No space left on device"):
            write_report([run], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert Results.load(run / "results.json")
