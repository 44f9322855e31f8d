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


PACS = Path("dicomweb://127.0.0.1:8042/dicom-web")


def test_scans_of_a_pacs(model_folder, tmp_path):
    fitting = Settings(model_folder, PACS, query="Modality=CT")
    settings.check_settings(fitting)
    assert fitting.is_pacs
    assert not Settings(model_folder, tmp_path).is_pacs


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scans": PACS}, "--query: it is empty.*Modality=CT&StudyDate"),
        ({"scans": PACS, "query": "Color=red"}, "--query: Color is not known"),
        ({"scans": Path("dicomweb://ann:secret@pacs/web"), "query": "Modality=CT"}, "put credentials into ~/.netrc"),
        ({"query": "Modality=CT"}, "--query: needs a PACS.*dicomweb://host:port/path"),
        ({"scans": PACS, "query": "Modality=CT", "scores": True}, "--scores: belongs to.*OUT/scans"),
    ],
)
def test_what_does_not_go_with_a_pacs(model_folder, tmp_path, changes, told):
    if "scores" in changes:
        (tmp_path / "predictions.csv").write_text("")
        changes = changes | {"scores": tmp_path}
    with pytest.raises(UsageError, match=told) as error:
        settings.check_settings(Settings(**{"model": model_folder, "scans": tmp_path} | changes))
    assert "secret" not in str(error.value)


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


@pytest.mark.parametrize(
    ("changes", "address"),
    [
        ({}, "127.0.0.1"),
        ({"allow_remote": "0.0.0.0", "host_names": ("viewer.example",)}, "0.0.0.0"),
        ({"allow_remote": "10.0.0.7"}, "10.0.0.7"),
        ({"allow_remote": "::1"}, "::1"),
    ],
)
def test_settings_that_fit_pass_and_say_where_it_listens(model_folder, tmp_path, changes, address):
    fitting = Settings(model_folder, tmp_path, **changes)
    settings.check_settings(fitting)
    assert fitting.address == address


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
