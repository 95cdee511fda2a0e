"""The server of the live page."""

from __future__ import annotations

import ipaddress
import logging
import socket
from typing import TYPE_CHECKING

from cryslator_flows.errors import ConfigurationError, NotInstalledError

if TYPE_CHECKING:
    import uvicorn

    from cryslator_flows.serving.campaign_sources import CampaignSource

# Beside the policy in each page: no other site shows or embeds anything, and no browser guesses types of files.
HEADERS = [
    ("Content-Security-Policy", "frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
SECONDS_TO_END = 2  # for answers under way when the server is stopped


def open_socket(host: str, port: int) -> socket.socket:
    """Open the socket of a server, which is ready for connections afterwards.

    Parameters
    ----------
    host : str
        Name or address of this machine.
    port : int
        The port; 0 for any free one.

    Raises
    ------
    ConfigurationError
        The port is taken, or this machine has no such address.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        # socket adds the address in brackets.
        reason = str(getattr(error, "strerror", error)).split(" (")[0]
        raise ConfigurationError(
            f"{host}, port {port}: cannot be served ({reason}); choose another with --port, or another --host"
        ) from error


def address_of(opened: socket.socket) -> str:
    """Return the address of a server for a browser on this machine."""
    host, port, *_ = opened.getsockname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def make_server(source: CampaignSource, opened: socket.socket) -> uvicorn.Server:
    """Make the server of the campaigns of a place.

    Parameters
    ----------
    source : CampaignSource
        The place.
    opened : socket
        From `open_socket`. On a loopback address the server only answers to the names of this machine, so that no
        site can read it through its own name.

    Raises
    ------
    NotInstalledError
        Starlette or uvicorn is not installed.
    """
    try:
        import uvicorn

        from cryslator_flows.serving.web_app import make_app
    except ModuleNotFoundError as error:
        raise NotInstalledError(
            f"cryslator serve needs {error.name}, which is not installed; pip install 'cryslator-flows[serve]'"
        ) from error
    is_loopback = ipaddress.ip_address(opened.getsockname()[0]).is_loopback
    app = make_app(source, LOOPBACK_NAMES if is_loopback else ("*",))
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            headers=HEADERS,
            lifespan="off",
            timeout_graceful_shutdown=SECONDS_TO_END,
        )
    )


def run_server(server: uvicorn.Server, opened: socket.socket) -> None:
    """Serve until Ctrl-C; answers that are under way then are dropped without a word.

    Parameters
    ----------
    server : uvicorn.Server
        From `make_server`.
    opened : socket
        Its socket.

    Raises
    ------
    KeyboardInterrupt
        The server was stopped.
    """
    logger = logging.getLogger("uvicorn.error")

    def is_before_the_end(_: logging.LogRecord) -> bool:
        return not server.should_exit

    logger.addFilter(is_before_the_end)
    try:
        server.run([opened])
    finally:
        logger.removeFilter(is_before_the_end)
