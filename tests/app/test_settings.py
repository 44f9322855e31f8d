"""The command line: what is understood, and that everything that can't work is told at once."""

from pathlib import Path

import pytest

from app import settings
from app.settings import Settings
from pipeline.domain import UsageError


def test_settings_of_a_command_line():
    found = settings.parse_settings(("--model", "m", "--scans", "s", "--port", "9", "--hide-identity"))
    assert found == Settings(Path("m"), Path("s"), 9, True)
    plain = settings.parse_settings(("--model", "m", "--scans", "s"))
    assert (plain.port, plain.address) == (8501, "127.0.0.1")


@pytest.mark.parametrize("wrong", [("--model", "m"), ("--model", "m", "--scans", "s", "--colour")])
def test_wrong_command_line_leaves_with_2(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        settings.parse_settings(wrong)


def test_every_problem_is_told_at_once(tmp_path):
    wrong = Settings(
        tmp_path, tmp_path / "none", 99999, scores=tmp_path, run=tmp_path, db="opinions.sqlite", audit_log=tmp_path,
        allow_remote="viewer.example",
    )  # fmt: skip
    parts = (
        r"--model .*model\.json", "--scans .*does not exist", "--scores .*no predictions", "--run .*no predictions",
        "--allow-remote .*no IP address", "--port 99999", "--db .*sqlite:///opinions.sqlite", "--audit-log .*folder",
    )  # fmt: skip
    with pytest.raises(UsageError, match="(?s)" + ".*".join(parts)):
        settings.check_settings(wrong)


def test_settings_of_a_real_model_pass(model_folder, tmp_path):
    settings.check_settings(Settings(model_folder, tmp_path))
    settings.check_settings(Settings(model_folder, tmp_path, allow_remote="0.0.0.0", host_names=("viewer.example",)))
    settings.check_settings(Settings(model_folder, tmp_path, allow_remote="10.0.0.7"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host_names": ("a.example",)}, "--host-names: has no effect without --allow-remote"),
        ({"allow_remote": "0.0.0.0"}, "add --host-names"),
        ({"allow_remote": "::"}, "add --host-names"),
    ],
)
def test_letting_others_in_must_be_said_in_full(model_folder, tmp_path, changes, words):
    with pytest.raises(UsageError, match=words):
        settings.check_settings(Settings(model_folder, tmp_path, **changes))


def test_what_readers_say_lies_in_the_users_own_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    plain = Settings(Path("m"), Path("s"))
    assert plain.database == f"sqlite:///{tmp_path}/scanline/opinions.sqlite"
    assert plain.audit_file == tmp_path / "scanline" / "audit.jsonl"
    own = Settings(Path("m"), Path("s"), db="sqlite:///x.sqlite", audit_log=Path("y.jsonl"))
    assert (own.database, own.audit_file) == ("sqlite:///x.sqlite", Path("y.jsonl"))


@pytest.mark.parametrize(
    ("system", "name", "expected"),
    [("darwin", "posix", "Library/Application Support/scanline"), ("win32", "nt", "scanline")],
)
def test_own_folder_by_the_systems_custom(monkeypatch, system, name, expected):
    monkeypatch.setattr(settings.sys, "platform", system)
    monkeypatch.setattr(settings, "os", type("os", (), {"name": name, "environ": {}}))
    assert settings.data_folder().as_posix().endswith(expected)
