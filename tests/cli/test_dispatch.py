import signal
import subprocess
import sys

import pytest

from longtail.cli import main
from longtail.cli.dispatch import all_commands
from longtail.errors import DataError, TrainingError


def test_every_command_explains_itself_without_torch():
    """--help is fast because nothing heavy is imported; that of ``train`` reads every component's options."""
    script = (
        "import contextlib, io, sys\n"
        "from longtail.cli import main\n"
        "from longtail.cli.dispatch import all_commands\n"
        "for name in ('', *(name for name in all_commands() if not name.startswith('train'))):\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):\n"
        "        main([*name.split(), '--help'])\n"
        "    assert 'usage:' in out.getvalue(), name\n"
        "heavy = {'torch', 'torchvision', 'lightning', 'matplotlib', 'transformers'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_info_imports_no_compiler():
    """torch's compiler takes half the time of the whole command."""
    script = (
        "import sys\n"
        "from longtail.cli import main\n"
        "main(['info', 'focal'])\n"
        "main(['info'])\n"
        "heavy = {'torch._dynamo', 'torch._inductor', 'torchvision', 'lightning', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_options_of_components_are_in_the_help(capsys):
    for task, options in (("segmentation", ("alpha", "overlap", "initialise")), ("detection", ("overall_weight",))):
        with pytest.raises(SystemExit):
            main(["train", task, "--help"])
        shown = capsys.readouterr().out
        for option in options:
            assert f".{option}" in shown, option
        assert task == "segmentation" or shown.count("overall_weight") == 1


def test_an_option_is_found_by_what_it_is_called_in_its_help(capsys):
    with pytest.raises(SystemExit):
        main(["train", "segmentation", "--optimiser.learning_rate", "3"])
    assert "did you mean --optimiser.lr?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "segmentation", "--iterations", "{train:", "10}"])
    assert "quote it" in capsys.readouterr().err


def test_the_list_of_commands(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, module in all_commands().items():
        assert name in out and module.SUMMARY.split()[0] in out
    assert main([]) == 2
    assert main(["train"]) == 0
    assert "train segmentation" in capsys.readouterr().out


def test_python_m_longtail():
    done = subprocess.run([sys.executable, "-m", "longtail", "--version"], capture_output=True, text=True)
    from longtail import __version__

    assert (done.returncode, done.stdout.strip()) == (0, __version__)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["trian"], "longtail train segmentation"),
        (["train", "segmentaton"], "longtail train segmentation"),
        (["predicts"], "longtail predict"),
        (["scor", "segmentation"], "longtail score"),
    ],
)
def test_typos_in_commands(words, meant, capsys):
    assert main(words) == 2
    assert f"did you mean `{meant}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimizer.lr", "3"], "did you mean --optimiser.lr?"),
        (["--resum"], "did you mean --resume?"),
        (["--seed", "x"], "seed"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--iterations", "{train:2}"], "a space after a colon"),
    ],
)
def test_typos_in_options(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "segmentation", *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_unknown_keys_of_a_file_are_refused(tmp_path, capsys):
    for text, said in (
        ("optimizer: {lr: 1}", "run.yaml: unknown setting optimizer.lr\n  fix: did you mean optimiser.lr?"),
        ("data: {datset: x}", "run.yaml: unknown setting data.datset\n  fix: did you mean data.dataset?"),
        ("iterations: {train:2}", "a space after a colon"),
        ("", "holds no settings"),
    ):
        (tmp_path / "run.yaml").write_text(text)
        with pytest.raises(SystemExit) as stopped:
            main(["train", "segmentation", "--config", str(tmp_path / "run.yaml")])
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err


def test_dotted_paths_are_found_in_the_working_directory(tmp_path):
    """As the console script starts: the working directory is not on the path, and hides nothing once it is."""
    (tmp_path / "my_own_data.py").write_text("class Mine: ...\n")
    (tmp_path / "yaml.py").write_text("raise SystemExit('not the library')\n")
    script = "import sys; from longtail.cli import main; sys.path = [p for p in sys.path if p]; sys.exit(main())"
    words = ["-c", script, "count", "my_own_data.Yours"]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True)
    assert "module 'my_own_data' has no attribute 'Yours'" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("labels/7.png is torn", fix="restore it"), 2),
        (TrainingError("loss 'ce' is nan in iteration 4", fix="lower lr"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_one_message_and_a_code(error, code, capsys, monkeypatch):
    def fail(arguments):
        raise error

    monkeypatch.setattr(all_commands()["info"], "run", fail)
    assert main(["info"]) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    if code != 130:
        assert error.problem in err and error.fix in err
        with pytest.raises(type(error)):
            main(["info", "--debug"])
        monkeypatch.setenv("LONGTAIL_DEBUG", "1")
        with pytest.raises(type(error)):
            main(["info"])


def test_signals_have_their_codes():
    assert 128 + signal.SIGTERM == 143 and 128 + signal.SIGINT == 130
