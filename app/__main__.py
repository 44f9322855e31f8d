"""`python -m app`: the viewer on 127.0.0.1, behind a link that works once, whatever folder it is started from."""

import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from app.access import Gate, LaunchToken
from app.volumes import routes
from pipeline.console import WRONG_USE, guarded, stderr
from pipeline.domain import UsageError

ADDRESS = "127.0.0.1"
HOSTS = [ADDRESS, "localhost"]
MAX_UPLOAD_MB = 500
NEEDS = """The viewer needs a model and a folder of scans, for example those of the demo (make demo):
  python -m app --model runs/demo/run/model --scans data/demo/scans
python -m app --help explains every option."""
OPTIONS: dict[str, object] = {
    "server.address": ADDRESS,
    "server.allowedHosts": HOSTS,
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
    "server.maxUploadSize": MAX_UPLOAD_MB,
    "server.maxMessageSize": 50,
    "server.disconnectedSessionTTL": 60,
    "browser.gatherUsageStats": False,
    "browser.serverAddress": ADDRESS,
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


def main(argv: Sequence[str] | None = None) -> int:
    """Start the viewer and serve until it is interrupted; the exit code."""
    arguments = tuple(sys.argv[1:] if argv is None else argv)
    if not arguments:
        stderr.print(NEEDS, markup=False)
        return WRONG_USE
    return guarded(lambda: _serve(arguments))


def _serve(arguments: tuple[str, ...]) -> int:
    from app import session  # loads torch, which --help and a mistyped option need not wait for

    settings = session.parse_settings(arguments)
    session.check_settings(settings)
    _check_port(settings.port)
    stderr.print("checking and loading the model ...", markup=False)
    session.the_model(settings.model)
    # The page's script reads the same command line; Streamlit hands it sys.argv.
    sys.argv = [__file__, *arguments]
    viewer_app().run(config={**OPTIONS, "server.port": settings.port})
    return 0


def viewer_app() -> st.App:
    """The guarded application: Streamlit behind the launch token, which is announced once the server is up."""
    gate = Gate(_announce)

    @asynccontextmanager
    async def lifespan(_: st.App) -> AsyncIterator[None]:
        gate.renew()
        yield

    script = Path(__file__).with_name("viewer.py")
    # A foreign name that was made to point here (DNS rebinding) is turned away before anything looks at its request.
    guards = [Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS), Middleware(LaunchToken, gate=gate)]
    return st.App(script, lifespan=lifespan, routes=routes(), middleware=guards)


def _announce(token: str) -> None:
    port = st.get_option("server.port")
    print(f"Open the viewer (the link works once): http://{ADDRESS}:{port}/?token={token}", flush=True)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        if os.name != "nt":  # there the option would let two servers share a port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise UsageError(
                f"--port {port}: can't be opened on {ADDRESS} ({error.strerror}); give another one"
            ) from None


if __name__ == "__main__":
    sys.exit(main())
