"""A front before a real server, that a test's script may let fail; signatures stay valid."""

import http.client

from tests.doubles.server import Reply, Request, Server

_OF_ONE_HOP = ("connection", "transfer-encoding", "content-length")


def front_of(url: str) -> Server:
    """A server that passes each request on to the one at `url`, and its answer back."""
    address = url.removeprefix("http://")

    def forward(request: Request) -> Reply:
        connection = http.client.HTTPConnection(address, timeout=60)
        target = request.target
        connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            if name not in ("expect", "connection"):
                connection.putheader(name, value)
        connection.endheaders(request.body or None)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in _OF_ONE_HOP}
        if request.method == "HEAD":
            headers["Content-Length"] = answer.getheader("Content-Length") or "0"
        return Reply(answer.status, headers, body)

    return Server(forward)
