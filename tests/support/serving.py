"""A server of the live page in a thread, and requests to it as they are, with paths that no client tidies up."""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.client import HTTPConnection
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryslator_flows.serving.server import address_of, make_server, open_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPResponse

    from cryslator_flows.serving.campaign_sources import CampaignSource


class Client:
    """Requests to a server.

    Parameters
    ----------
    address : str
        Its address.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str = "/", method: str = "GET", **headers: str) -> tuple[HTTPResponse, str]:
        """Return an answer and its text."""
        connection = HTTPConnection(urlsplit(self.address).netloc, timeout=120)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        return answer, text

    def text(self, path: str = "/") -> str:
        """Return the text of an answer."""
        return self.ask(path)[1]

    def state(self, path: str = "/") -> dict[str, Any]:
        """Return the state of a page."""
        return json.loads(self.text(f"{path}state"))

    def has_read_all(self) -> bool:
        """Return True once the list has the results of all campaigns."""
        return "reading ..." not in self.text()


@contextmanager
def served(source: CampaignSource) -> Iterator[Client]:
    """Serve the campaigns of a place."""
    with open_socket("127.0.0.1", 0) as opened:
        server = make_server(source, opened)
        thread = Thread(target=server.run, args=([opened],))
        thread.start()
        yield Client(address_of(opened))
        server.should_exit = True
        thread.join()
