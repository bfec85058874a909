"""Requests that mean harm: as many as are asked for, the same ones every time.

Each is what goes over the wire, byte for byte, so that wrong lengths and broken headers are among
them; a slow one comes in pieces with pauses between.
"""

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from tests.serve.bombs import bombs, picture

BOUNDARY = "x7Nq2"
SECRET = "never-to-be-answered-5d1c"  # in a file outside of every root
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM", "JPEG2000")
_AIMS = ("/v1/score", "/v1/score?map=1&declared=1", "/v1/score?stability=web", "/v1/score?map=1")


@dataclass(frozen=True)
class Hostile:
    """One request: its kind, the pieces that are sent, seconds between them.

    `may_wait`: it promises more than it sends, so that the service may wait for the rest.
    """

    kind: str
    pieces: tuple[bytes, ...]
    pause_s: float = 0.0
    may_wait: bool = False


def requests(
    count: int, secret_path: str, inside_port: int, allowed: str, seed: int = 0
) -> Iterator[Hostile]:
    """So many, the kinds in turn.

    Args:
        count: how many.
        secret_path: a file that no request may get at.
        inside_port: of loopback, where nothing may be fetched.
        allowed: a folder whose images batches may name; `link.png` there leads to the secret.
        seed: of all that is drawn.
    """
    made: tuple[Callable[[Random], Hostile], ...] = (
        _bomb,
        _truncated,
        _flipped,
        _form,
        _wrong_length,
        _headers,
        lambda draw: _names(draw, secret_path),
        _json,
        lambda draw: _inside(draw, inside_port, secret_path, allowed),
        lambda draw: _paths(draw, secret_path),
        _slow,
        _encoded,
        _not_http,
    )
    for at in range(count):
        draw = Random(f"{seed}\0{at}")
        yield made[at % len(made)](draw)


def request(
    body: bytes, kind: str, path: str = "/v1/score", length: str | None = "", extra: bytes = b""
) -> bytes:
    """A POST as bytes; `length` in place of the true one, None: no such header."""
    head = [f"POST {path} HTTP/1.1", "Host: localhost"]
    head += [f"Content-Type: {kind}"] if kind else []
    head += [] if length is None else [f"Content-Length: {length or len(body)}"]
    return "\r\n".join(head).encode("utf-8", "surrogateescape") + b"\r\n" + extra + b"\r\n" + body


def form(data: bytes, name: str = "a.png", field: str = "images", kind: str = "image/png") -> bytes:
    """A form with one file; the name goes in as it is."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
    head += f"Content-Type: {kind}\r\n\r\n"
    return head.encode("utf-8", "surrogateescape") + data + f"\r\n--{BOUNDARY}--\r\n".encode()


_FORM = f"multipart/form-data; boundary={BOUNDARY}"


# --- pictures


def _bomb(draw: Random) -> Hostile:
    made = bombs(draw)
    name = draw.choice(sorted(made))
    if draw.random() < 0.5:
        return Hostile(f"bomb: {name}", (request(form(made[name]()), _FORM, draw.choice(_AIMS)),))
    raw = request(made[name](), "application/octet-stream", draw.choice(_AIMS))
    return Hostile(f"bomb: {name}", (raw,))


def _truncated(draw: Random) -> Hostile:
    kind = draw.choice(_FORMATS)
    data = picture(draw, kind)
    data = data[: draw.randrange(len(data))]
    sent = request(data, "image/" + kind.lower(), draw.choice(_AIMS))
    return Hostile(f"truncated {kind}", (sent,))


def _flipped(draw: Random) -> Hostile:
    kind = draw.choice(_FORMATS)
    data = bytearray(picture(draw, kind))
    for _ in range(draw.choice((1, 10, 200))):
        data[draw.randrange(min(len(data), draw.choice((64, len(data)))))] = draw.randrange(256)
    return Hostile(f"flipped {kind}", (request(form(bytes(data)), _FORM, draw.choice(_AIMS)),))


# --- bodies


def _form(draw: Random) -> Hostile:
    good = form(picture(draw, "PNG"))
    many = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\na\r\n'
    )
    forms: dict[str, tuple[bytes, str]] = {
        "no boundary": (good, "multipart/form-data"),
        "empty boundary": (good, "multipart/form-data; boundary="),
        "long boundary": (good, f"multipart/form-data; boundary={'b' * 9000}"),
        "another boundary": (good, "multipart/form-data; boundary=other"),
        "no end": (good[:-30], _FORM),
        "nothing": (b"", _FORM),
        "only an end": (f"--{BOUNDARY}--\r\n".encode(), _FORM),
        "thousands of files": (many.encode() * 3000, _FORM),
        "no name": (good.replace(b'name="images"; ', b""), _FORM),
        "no headers": (f"--{BOUNDARY}\r\n\r\na\r\n--{BOUNDARY}--\r\n".encode(), _FORM),
        "a long header": (good.replace(b"image/png", b"image/png" * 50_000), _FORM),
        "a header without an end": (
            f"--{BOUNDARY}\r\nContent-Disposition: ".encode() + b"a" * 90_000,
            _FORM,
        ),
        "another field": (form(picture(draw, "PNG"), field="../images"), _FORM),
        "a field of text": (good.replace(b'; filename="a.png"', b""), _FORM),
        "an odd charset": (good, _FORM + "; charset=utf-7"),
        "a form within": (form(good, kind=_FORM), _FORM),
        "wrong type": (good, draw.choice(("application/json", "image/png", "text/html", ";;;"))),
        "no type": (good, ""),
        "a thousand parameters": (good, _FORM + ";a=b" * 1000),
    }
    name = draw.choice(sorted(forms))
    body, kind = forms[name]
    return Hostile(f"form: {name}", (request(body, kind, draw.choice(_AIMS)),))


def _json(draw: Random) -> Hostile:
    one = base64.b64encode(picture(draw, "PNG")).decode()
    bodies: dict[str, str | bytes] = {
        "deep": "[" * 100_000,
        "deep objects": '{"images":' * 50_000,
        "nothing": "",
        "no object": draw.choice(("null", "1", '"a"', "[]", "[null]", "NaN", "{}")),
        "no list": json.dumps({"images": draw.choice(({}, None, "a", 7))}),
        "no images": json.dumps({"images": []}),
        "odd images": json.dumps({"images": draw.choice(([1], [None], [[]], ["a"], [{}]))}),
        "not base64": json.dumps({"images": [{"name": "a", "data": "é%%%"}]}),
        "base64 cut": json.dumps({"images": [{"name": "a", "data": one[:-3]}]}),
        "empty": json.dumps({"images": [{"name": "a", "data": ""}]}),
        "too many": json.dumps({"images": [{"name": "a", "data": "AA=="}] * 3000}),
        "large number": '{"images":' + "9" * 10_000 + "}",
        "lone surrogate": '{"images":[{"name":"\\ud800","data":"AA=="}]}',
        "zero in a name": '{"images":[{"name":"a\\u0000b","data":"AA=="}]}',
        "twice the same": '{"images":[],"images":[{"name":"a","data":"AA=="}]}',
        "not UTF-8": b'{"images":[{"name":"\xff\xfe","data":"AA=="}]}',
        "UTF-16": '{"images":[]}'.encode("utf-16"),
        "long name": json.dumps({"images": [{"name": "n" * 500_000, "data": "AA=="}]}),
        "more fields": json.dumps({"images": [{"name": "a", "data": one, "__class__": "os"}]}),
    }
    name = draw.choice(sorted(bodies))
    body = bodies[name]
    sent = request(body if isinstance(body, bytes) else body.encode(), "application/json")
    return Hostile(f"JSON: {name}", (sent,))


def _encoded(draw: Random) -> Hostile:
    """Bodies that say they are packed; a service that unpacks them unpacks a bomb."""
    zeros = gzip.compress(bytes(60 << 20), 9)
    how = draw.choice(("gzip", "deflate", "br", "zstd", "gzip, gzip", "identity", "\x01"))
    extra = f"Content-Encoding: {how}\r\n".encode()
    kind = draw.choice(("application/json", "image/png", _FORM))
    return Hostile(f"packed: {how!r}", (request(zeros, kind, extra=extra),))


def _names(draw: Random, secret_path: str) -> Hostile:
    names = (
        "../../../../etc/passwd",
        secret_path,
        f"file://{secret_path}",
        "..\\..\\windows\\win.ini",
        "a\0.png",
        "/dev/zero",
        "/proc/self/environ",
        "CON",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "‮gpj.exe",
        "a" * 5000,
        "a\r\nX-Header: b",
        '"; filename="b.png',
        "<script>alert(1)</script>.png",
        "=HYPERLINK(1)",
        "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape"),
        "",
        ".",
        "${jndi:ldap://127.0.0.1/a}",
        "{{7*7}}",
        "%s%s%n",
        "s3://bucket/key",
    )
    name = draw.choice(names)
    body = form(picture(draw, "PNG"), name)
    if draw.random() < 0.3:
        odd = f"filename*=UTF-8''{name}".encode("utf-8", "surrogateescape")
        body = body.replace(b'filename="', odd + b'; x="', 1)
    return Hostile("a name", (request(body, _FORM, draw.choice(_AIMS)),))


# --- addresses


def _inside(draw: Random, port: int, secret_path: str, allowed: str) -> Hostile:
    urls = (
        f"http://127.0.0.1:{port}/a.png",
        f"http://localhost:{port}/",
        f"http://[::1]:{port}/",
        f"http://[::ffff:127.0.0.1]:{port}/",
        f"http://0x7f000001:{port}/",
        f"http://2130706433:{port}/",
        f"http://127.1:{port}/",
        f"http://0:{port}/",
        f"http://0.0.0.0:{port}/",
        f"http://example.org@127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}#@example.org/",
        f"http://example.org:80@127.0.0.1:{port}/",
        f"http://127.0.0.1%00.example.org:{port}/",
        f"http://①②⑦.0.0.1:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.google.internal/",
        "http://[fd00:ec2::254]/",
        f"file://{secret_path}",
        f"FILE://localhost{secret_path}",
        secret_path,
        f"gopher://127.0.0.1:{port}/_x",
        f"dict://127.0.0.1:{port}/",
        "ftp://127.0.0.1/",
        "data:image/png;base64,AAAA",
        f"//127.0.0.1:{port}/",
        f"http:127.0.0.1:{port}",
        "http://",
        "http://[",
        "http://a:99999999/",
        f"http://127.0.0.1:{port}/\r\nHost: b",
        "jar:http://127.0.0.1!/",
        "s3://127.0.0.1/a",
        "hf://datasets/a",
    )
    url = draw.choice(urls)
    if draw.random() < 0.3:
        above = f"{allowed}/{'../' * allowed.count('/')}"
        url = draw.choice((url, f"{allowed}/link.png", above + secret_path.lstrip("/")))
        body = json.dumps({"images": [url]})
        return Hostile(
            "inside: batch", (request(body.encode(), "application/json", "/v1/batches"),)
        )
    body = json.dumps({"images": [{"name": "a", "url": url}]})
    return Hostile("inside: fetch", (request(body.encode(), "application/json"),))


def _paths(draw: Random, secret_path: str) -> Hostile:
    up = draw.choice(("../" * 9, "..%2f" * 9, "%2e%2e/" * 9, "..\\" * 9, "//", "/./", "....//" * 9))
    where = secret_path.lstrip("/")
    targets = (
        f"/{up}{where}",
        f"/page.js/{up}{where}",
        f"/v1/batches/{up}{where}",
        f"/v1/detectors/{up}{where}",
        f"/v1/score?detector={up}{where}",
        f"/v1/score?detector={secret_path}",
        "/v1/score?detector=%00",
        "/v1/score?detector=" + "a" * 5000,
        f"/v1/score?stability={up}{where}",
        f"/v1/score?stability={secret_path}",
        "/v1/score?map=" + draw.choice(("99999", "-1", "nan", "%00", "[]", "")),
        "/v1/score?declared=" + draw.choice(("2", "null", "%ff", "a&declared=b")),
        "/v1/score?" + "&".join(f"a{k}=b" for k in range(3000)),
        "/v1/score?%",
        "/" + "a" * 7000,
        f"http://localhost{secret_path}",
        "/docs/../../etc/passwd",
        "/-/routes",
        "/metrics/../healthz",
        "/%ff%fe",
        "*",
    )
    target = draw.choice(targets)
    if target.startswith("/v1/score"):
        return Hostile("a path", (request(form(picture(draw, "PNG")), _FORM, target),))
    method = draw.choice(("GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "HEAD", "PATCH"))
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return Hostile("a path", (head.encode("utf-8", "surrogateescape"),))


# --- the wire


def _wrong_length(draw: Random) -> Hostile:
    body = form(picture(draw, "PNG"))
    chunked = b"Transfer-Encoding: chunked\r\n"
    sent: dict[str, tuple[bytes, bool]] = {
        "too long": (request(body, _FORM, length=str(len(body) + 50)), True),
        "far too long": (request(body, _FORM, length="99999999999"), True),
        "too short": (request(body, _FORM, length=str(len(body) // 2)), False),
        "none": (request(body, _FORM, length=None), False),
        "negative": (request(body, _FORM, length="-5"), False),
        "no number": (
            request(body, _FORM, length=draw.choice(("abc", "1e3", "0x10", "١٢"))),
            False,
        ),
        "beyond 64 bits": (request(body, _FORM, length="9" * 30), True),
        "two": (request(body, _FORM, extra=b"Content-Length: 3\r\n"), False),
        "and pieces": (request(body, _FORM, extra=chunked), True),
        "no pieces": (request(body, _FORM, length=None, extra=chunked), True),
        "a piece of no size": (request(b"zz\r\nabc", _FORM, length=None, extra=chunked), True),
        "a large piece": (request(b"fffffffffffff\r\na", _FORM, length=None, extra=chunked), True),
        "a negative piece": (request(b"-1\r\na\r\n", _FORM, length=None, extra=chunked), True),
        "pieces without an end": (request(b"1\r\na\r\n", _FORM, length=None, extra=chunked), True),
    }
    name = draw.choice(sorted(sent))
    data, may_wait = sent[name]
    return Hostile(f"length: {name}", (data,), may_wait=may_wait)


def _headers(draw: Random) -> Hostile:
    good = form(picture(draw, "PNG"))
    floods: dict[str, bytes] = {
        "thousands": b"".join(b"X-%d: a\r\n" % k for k in range(5000)),
        "a long one": b"X: " + b"a" * 300_000 + b"\r\n",
        "a long name": b"X" * 70_000 + b": a\r\n",
        "no colon": b"nothing\r\n",
        "a zero": b"X: a\0b\r\n",
        "folded": b"X: a\r\n b\r\n",
        "no UTF-8": b"X: \xff\xfe\r\n",
        "a long token": b"Authorization: Bearer " + b"t" * 50_000 + b"\r\n",
        "an odd token": b"Authorization: \xff\xfe\x80\r\n",
        "hosts": b"Host: a\r\nHost: b\r\n",
        "a way": b"X-Forwarded-For: " + b"1.1.1.1," * 5000 + b"\r\n",
        "expects": b"Expect: 200-maybe\r\n",
        "an upgrade": b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a\r\n",
        "a range": b"Range: bytes=0-,0-,0-,0-\r\n",
        "an odd id": b"X-Request-Id: \xff\xfe\r\n",
        "an odd model": b"serve-multiplexed_model-id: \xff\r\n",
        "no time": b"X-Request-Timeout-Seconds: 0.000001\r\n",
        "a cookie": b"Cookie: " + b"a=b; " * 9000 + b"\r\n",
    }
    name = draw.choice(sorted(floods))
    may_wait = name in ("expects", "an upgrade")  # an upgrade that is none is never answered
    return Hostile(f"headers: {name}", (request(good, _FORM, extra=floods[name]),), 0.0, may_wait)


def _slow(draw: Random) -> Hostile:
    """In pieces, and given up; it must hold up nobody else."""
    whole = request(form(picture(draw, "PNG")), _FORM)
    count = draw.choice((3, 6))
    if draw.random() < 0.4:  # not even the headers come to an end
        whole = whole[: draw.randrange(10, 100)]
    step = max(1, len(whole) // count)
    pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    is_left = draw.random() < 0.6
    return Hostile("slow", tuple(pieces[:-1] if is_left else pieces), 0.05, may_wait=True)


def _not_http(draw: Random) -> Hostile:
    sent = draw.choice(
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + draw.randbytes(500),
            b"GET /\r\n\r\n",
            b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
            b"\r\n" * 500 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            draw.randbytes(2000),
            b"GET  /  HTTP/1.1\r\n\r\n",
            b"A" * 70_000,
            b"GET / HTTP/1.1\nHost: a\n\n",
            b"",
        )
    )
    return Hostile("not HTTP", (sent,), may_wait=True)
