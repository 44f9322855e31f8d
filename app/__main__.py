"""`python -m app`: the viewer on 127.0.0.1, behind a link that works once, whatever folder it is started from."""

import gc
import importlib.util
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from app import pacs_source
from app.access import Gate, LaunchToken, UploadCap
from app.received import MAX_FILE_MB
from app.settings import ADDRESS, Settings, check_settings, parse_settings
from app.volumes import routes
from pipeline.console import WRONG_USE, guarded, stderr
from pipeline.domain import UsageError
from pipeline.scans.pacs import Pacs
from pipeline.scans.temporary import remove_left_by

HOSTS = (ADDRESS, "localhost")
MAX_TOGETHER_MB = 2048
"""What all browser tabs together may hold of uploads."""
NEEDS = """The viewer needs a model and a folder of scans, for example those of the demo (make demo):
  python -m app --model runs/demo/run/model --scans data/demo/scans
python -m app --help explains every option."""
OPTIONS: dict[str, object] = {
    "server.baseUrlPath": "",
    "server.headless": True,
    "server.enableCORS": True,
    "server.corsAllowedOrigins": [],
    "server.enableXsrfProtection": True,
    "server.xsrfCookieSameSite": "strict",
    "server.enableStaticServing": False,
    "server.enableAgentApi": False,
    "server.fileWatcherType": "none",
    "server.runOnSave": False,
    "server.maxUploadSize": MAX_FILE_MB,
    "server.maxMessageSize": 50,
    "server.disconnectedSessionTTL": 60,
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "client.toolbarMode": "minimal",
    "runner.magicEnabled": False,
    "global.developmentMode": False,
    "logger.level": "error",
    "logger.hideWelcomeMessage": True,
    "logger.enableRich": False,
    "theme.base": "dark",
    "theme.primaryColor": "#4cc2ff",
    "theme.backgroundColor": "#0b0e12",
    "theme.secondaryBackgroundColor": "#151a21",
    "theme.textColor": "#e8edf2",
}
"""Streamlit's settings, passed outright: no config.toml of the folder it is started from can loosen them."""
REMOTE = """This viewer is open to other machines: whoever reaches {address} and has the link sees patients' scans.
The connection is not encrypted by the viewer itself: put a TLS proxy in front of it (docs/viewer.md)."""

OPEN = "The connection to the PACS is plain http: whoever is on the way can read it. dicomwebs:// is encrypted."


def main(argv: Sequence[str] | None = None) -> int:
    """Start the viewer and serve until it is interrupted; the exit code."""
    arguments = tuple(sys.argv[1:] if argv is None else argv)
    if not arguments:
        stderr.print(NEEDS, markup=False)
        return WRONG_USE
    return guarded(lambda: _serve(arguments))


def _serve(arguments: tuple[str, ...]) -> int:
    settings = parse_settings(arguments)
    check_settings(settings)
    _check_port(settings)
    _check_login(settings)
    _check_contents(settings)
    _spare_the_collector()
    # The page's script reads the same command line; Streamlit hands it sys.argv.
    sys.argv = [__file__, *arguments]
    names = list(dict.fromkeys((*HOSTS, settings.address, *settings.host_names)))
    where = {"server.address": settings.address, "server.allowedHosts": names, "browser.serverAddress": names[-1]}
    if settings.is_pacs and Pacs.at(str(settings.scans)).is_open:
        stderr.print(OPEN, style="yellow", markup=False)
    if settings.allow_remote:
        stderr.print(REMOTE.format(address=settings.address), style="yellow", markup=False)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # ignored under nohup
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        viewer_app(settings).run(config={**OPTIONS, **where, "server.port": settings.port})
    finally:
        _tidy()  # a second Ctrl-C ends the server without its lifespan
    return 0


def _tidy() -> None:
    """Remove what lies in the temporary folder: retrieved scans, and uploads that are being read."""
    pacs_source.remove()
    remove_left_by(os.getpid())


def _check_contents(settings: Settings) -> None:
    """Read what must fit together: the model, the scores and the run of it, the database of opinions."""
    from app import catalog, opinions, session, threshold  # load torch, which --help and a mistyped option need not

    stderr.print("checking and loading the model ...", markup=False)
    model = session.the_model(settings.model)
    problems = []
    checks: list[Callable[[], object]] = [
        lambda: catalog.the_scores(settings.scores, model.model_id, model.findings),
        lambda: settings.run and threshold.the_run(settings.run, model.model_id),
        lambda: opinions.the_opinions(settings.database),
    ]
    for check in checks:
        try:
            check()
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("the viewer can't start:\n  " + "\n  ".join(problems))


def _spare_the_collector() -> None:
    """Take what stays for good (torch, the model: some 700,000 objects) out of the garbage collector's sight.

    Streamlit collects after every run of the page; looking through all of them, it held up the next run by 0.5 s.
    """
    gc.collect()
    gc.freeze()


def viewer_app(settings: Settings) -> st.App:
    """The guarded application: Streamlit behind the launch token, which is announced once the server is up."""
    host = (settings.host_names or (settings.address,))[0]
    gate = Gate(lambda token: _announce(host, token))

    @asynccontextmanager
    async def lifespan(_: st.App) -> AsyncIterator[None]:
        pacs_source.begin()
        gate.renew()
        yield
        _tidy()  # here, for no atexit sees SIGTERM

    script = Path(__file__).with_name("viewer.py")
    # A foreign name that was made to point here (DNS rebinding) is turned away before anything looks at its request.
    guards = [
        Middleware(TrustedHostMiddleware, allowed_hosts=[*HOSTS, settings.address, *settings.host_names]),
        Middleware(LaunchToken, gate=gate),
        Middleware(UploadCap, most=MAX_TOGETHER_MB * 2**20),
    ]
    return st.App(script, lifespan=lifespan, routes=routes(), middleware=guards)


def _announce(host: str, token: str) -> None:
    port = st.get_option("server.port")
    print(f"Open the viewer (the link works once): http://{host}:{port}/?token={token}", flush=True)


def _check_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    with socket.socket(family) as probe:
        if os.name != "nt":  # there the option would let two servers share a port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.address, settings.port))
        except OSError as error:
            raise UsageError(
                f"--port {settings.port}: can't be opened on {settings.address} ({error.strerror}); give another one"
            ) from None


def _check_login(settings: Settings) -> None:
    """Signing in needs Authlib and the provider's settings in secrets.toml."""
    if not settings.login:
        return
    if importlib.util.find_spec("authlib") is None:
        raise UsageError("--login: needs Authlib, which is not installed; pip install 'streamlit[auth]'")
    if not any((folder / ".streamlit" / "secrets.toml").is_file() for folder in (Path.home(), Path.cwd())):
        raise UsageError("--login: needs [auth] in ~/.streamlit/secrets.toml; docs/viewer.md shows what it holds")


if __name__ == "__main__":
    sys.exit(main())
