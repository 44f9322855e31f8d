"""The launcher: what it refuses at once, and what a running viewer lets in."""

import gc
import http.client
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from app import __main__ as launcher
from app.settings import parse_settings
from tests.app.running import Viewer, start_viewer, stop_viewer

LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp."""
LOOSE = """
[server]
address = "0.0.0.0"
enableXsrfProtection = false
enableCORS = false
enableStaticServing = true
allowedHosts = []
baseUrlPath = "elsewhere"
[browser]
gatherUsageStats = true
[client]
showErrorDetails = "full"
"""


@pytest.fixture(scope="module")
def viewer(tmp_path_factory, model_folder, demo_scans) -> Iterator[Viewer]:
    """Started in a folder whose own Streamlit settings would open everything."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text(LOOSE)
    running = start_viewer(model_folder, demo_scans, folder)
    yield running
    stop_viewer(running)


def ask(viewer: Viewer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a bare HTTP request."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=20)
    try:
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def sign_in(viewer: Viewer) -> str:
    """The cookie that the newest link gives; after a link was used, the line with the next one takes a moment."""
    end, status = time.monotonic() + 60, 0
    while status != 303 and time.monotonic() < end:
        parts = urlsplit(viewer.link)
        status, headers, _ = ask(viewer, f"{parts.path}?{parts.query}")
    assert status == 303
    return headers["set-cookie"].split(";")[0]


def upgrade(viewer: Viewer, **headers: str) -> int:
    """Status of a websocket's opening request."""
    return ask(
        viewer, "/_stcore/stream", Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Version="13",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==", **headers,
    )[0]  # fmt: skip


def listeners(port: int) -> set[str]:
    """Addresses (hexadecimal, as the kernel writes them) on which something listens at this port."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            address, at = local.split(":")
            if int(at, 16) == port and state == LISTEN:
                found.add(address)
    return found


def test_without_arguments_it_says_what_it_needs(capsys):
    assert launcher.main([]) == 2
    assert "python -m app --model runs/demo/run/model --scans data/demo/scans" in capsys.readouterr().err


def test_wrong_paths_end_with_2_and_are_named_together(tmp_path, capsys):
    assert launcher.main(["--model", str(tmp_path), "--scans", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert "--model" in said
    assert "--scans" in said


def test_a_port_in_use_ends_with_2(model_folder, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert launcher.main(["--model", str(model_folder), "--scans", str(tmp_path), "--port", port]) == 2
    assert f"--port {port}: can't be opened" in capsys.readouterr().err


def test_a_model_that_does_not_verify_ends_with_2(tmp_path, capsys):
    (tmp_path / "model.json").write_text("{}")
    assert launcher.main(["--model", str(tmp_path), "--scans", str(tmp_path), "--port", "0"]) == 2
    assert "model folder refused" in capsys.readouterr().err


def test_scores_run_and_database_that_do_not_fit_are_told_together(model_folder, tmp_path, capsys):
    for name in ("scores", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "scores" / "predictions.csv").write_text("scan_id,status\n")
    (tmp_path / "run" / "predictions.csv").write_text("")
    options = ["--scores", str(tmp_path / "scores"), "--run", str(tmp_path / "run"), "--db", "nosuch://base"]
    assert launcher.main(["--model", str(model_folder), "--scans", str(tmp_path), "--port", "0", *options]) == 2
    said = capsys.readouterr().err
    for words in ("predictions.csv: lacks the columns", "is no finished run", "--db: is no database URL"):
        assert words in said


def test_signing_in_needs_its_library(model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(launcher.importlib.util, "find_spec", lambda name: None)
    assert launcher.main(["--model", str(model_folder), "--scans", str(tmp_path), "--port", "0", "--login"]) == 2
    assert "pip install 'streamlit[auth]'" in capsys.readouterr().err


def test_signing_in_needs_a_provider(model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(launcher.importlib.util, "find_spec", lambda name: "there")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    assert launcher.main(["--model", str(model_folder), "--scans", str(tmp_path), "--port", "0", "--login"]) == 2
    assert "[auth] in ~/.streamlit/secrets.toml" in capsys.readouterr().err


def test_the_garbage_collector_does_not_look_through_what_stays(model_folder, tmp_path, monkeypatch):
    """Streamlit collects after every run of the page; with torch and the model to look through that takes 0.5 s."""
    watched = []
    page = SimpleNamespace(run=lambda config: watched.append(len(gc.get_objects())))
    monkeypatch.setattr(launcher, "viewer_app", lambda settings: page)
    monkeypatch.setattr(sys, "argv", sys.argv)
    options = ["--model", str(model_folder), "--scans", str(tmp_path), "--port", "0", "--db", "sqlite://"]
    try:
        assert launcher.main(options) == 0
    finally:
        gc.unfreeze()
    assert watched[0] < 10_000 < len(gc.get_objects())


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse_settings(("--help",))
    said = capsys.readouterr().out
    for option in (
        "--model", "--scans", "--port", "--hide-identity", "--scores", "--run", "--db", "--audit-log", "--allow-remote",
        "--host-names", "--login",
    ):  # fmt: skip
        assert option in said


def test_it_listens_on_this_machine_only(viewer):
    assert listeners(viewer.port) == {"0100007F"}


def test_health_answers_anybody_and_nothing_else_does(viewer):
    assert ask(viewer, "/_stcore/health")[0] == 200
    for path in ("/", "/_stcore/host-config", "/media/x.png", "/index.html"):
        assert ask(viewer, path)[0] == 401


def test_the_link_works_once_and_its_cookie_stays(viewer):
    used = urlsplit(viewer.link)
    cookie = sign_in(viewer)
    assert ask(viewer, f"/?{used.query}")[0] == 401
    status, headers, body = ask(viewer, "/", Cookie=cookie)
    assert status == 200
    assert b"<html" in body
    assert headers["x-frame-options"] == "DENY"


def test_the_websocket_needs_cookie_and_origin(viewer):
    cookie = sign_in(viewer)
    home = f"http://127.0.0.1:{viewer.port}"
    assert upgrade(viewer, Origin=home) == 403
    assert upgrade(viewer, Origin="http://evil.example", Cookie=cookie) == 403
    assert upgrade(viewer, Origin=home, Cookie=cookie) == 101


def test_a_foreign_host_name_is_refused(viewer):
    cookie = sign_in(viewer)
    for path in ("/", "/_stcore/health"):
        assert ask(viewer, path, Host=f"evil.example:{viewer.port}", Cookie=cookie)[0] == 400
    home = f"http://127.0.0.1:{viewer.port}"
    assert upgrade(viewer, Host="evil.example", Origin=home, Cookie=cookie) == 400
    assert ask(viewer, "/", Host=f"localhost:{viewer.port}", Cookie=cookie)[0] == 200


def test_an_upload_without_the_xsrf_token_is_refused(viewer):
    path = "/_stcore/upload_file/session/file"
    assert ask(viewer, path, "PUT", Cookie=sign_in(viewer))[0] == 403


def test_it_prints_links_and_nothing_of_the_patients(viewer):
    sign_in(viewer)
    said = "".join(viewer.lines)
    assert "Demo" not in said
    assert "P000" not in said
    assert re.search(r"Open the viewer \(the link works once\): http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", said)
    assert "Traceback" not in said
