"""The object store's own address: the part of S3's REST API that data goes through.

A raw ASGI application under ``/s3``; give it to boto3 as ``endpoint_url=".../s3"``. Addresses are
path-style. Credentials are not checked, but a pre-signed URL ends when it says so.
"""

import base64
import calendar
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from servers import s3_index, s3_xml
from servers.local_store import LocalStore
from servers.s3_body import body_of, small_body
from servers.store import About, Location, Reading, StoreError, described
from servers.wire import new_request_id

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PREFIX = "/s3"
MAX_XML_BYTES = 2 << 20
MAX_METADATA_BYTES = 2048
_META = "x-amz-meta-"


@dataclass(frozen=True)
class Ask:
    """One request, taken apart."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    receive: Receive

    @property
    def where(self) -> Location:
        return Location(self.bucket, self.key)


@dataclass(frozen=True)
class Reply:
    """What goes back: a body, or a stream of ``length`` bytes."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] | None = None
    stream: Reading | None = None
    length: int = 0


class S3Front:
    """Serves one store."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._uploads = s3_index.Uploads(store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP exchange."""
        request_id = new_request_id()
        try:
            ask = _taken_apart(scope, receive)
            _check_expiry(ask.query)
            reply = await self._answer(ask)
        except StoreError as error:
            body = s3_xml.error(error.code, str(error), request_id)
            reply = Reply(error.status, body, {"content-type": "application/xml"})
        except ValueError as error:
            body = s3_xml.error("InvalidArgument", str(error), request_id)
            reply = Reply(400, body, {"content-type": "application/xml"})
        except Exception:  # a fault of ours
            log.exception("request %s failed", request_id)
            body = s3_xml.error("InternalError", "See the server's log.", request_id)
            reply = Reply(500, body, {"content-type": "application/xml"})
        await _send(send, reply, request_id, scope["method"] == "HEAD")

    async def _answer(self, ask: Ask) -> Reply:
        if not ask.bucket:
            return _xml(s3_xml.buckets(await self._store.index.run(s3_index.buckets)))
        answer = self._bucket if not ask.key else self._object
        reply = await answer(ask)
        if reply is None:
            raise StoreError(501, "NotImplemented", f"{ask.method} does not do this here.")
        return reply

    async def _bucket(self, ask: Ask) -> Reply | None:
        match ask.method:
            case "PUT" if not ask.query:
                await small_body(ask.receive, MAX_XML_BYTES)
                await self._store.make_bucket(ask.bucket)
                return Reply(headers={"location": f"/{ask.bucket}"})
            case "HEAD":
                await self._store.need_bucket(ask.bucket)
                return Reply()
            case "DELETE":
                await self._store.index.run(lambda db: s3_index.remove_bucket(db, ask.bucket))
                return Reply(204)
            case "GET" if "location" in ask.query:
                await self._store.need_bucket(ask.bucket)
                return _xml(s3_xml.bucket_location())
            case "GET":
                return await self._list(ask)
            case "POST" if "delete" in ask.query:
                keys = s3_xml.keys_to_delete(await small_body(ask.receive, MAX_XML_BYTES))
                for key in keys:
                    await self._store.delete(Location(ask.bucket, key))
                return _xml(s3_xml.deleted(keys))
        return None

    async def _list(self, ask: Ask) -> Reply:
        after = ask.query.get("start-after", "") or ask.query.get("marker", "")
        if token := ask.query.get("continuation-token"):
            after = base64.urlsafe_b64decode(token).decode()
        limit = min(int(ask.query.get("max-keys", s3_index.MAX_LISTED)), s3_index.MAX_LISTED)
        prefix, delimiter = ask.query.get("prefix", ""), ask.query.get("delimiter", "")
        query = s3_index.Query(ask.bucket, prefix, delimiter, after, limit)
        found = await self._store.index.run(lambda db: s3_index.listed(db, query))
        return _xml(s3_xml.listing(query, found, ask.query.get("encoding-type") == "url"))

    async def _object(self, ask: Ask) -> Reply | None:
        upload = ask.query.get("uploadId")
        match ask.method:
            case "GET" if upload:
                return _xml(s3_xml.parts(ask.where, upload, await self._uploads.parts(upload)))
            case "GET" | "HEAD":
                return await self._get(ask)
            case "PUT" if upload:
                body = body_of(ask.receive, ask.headers)
                about = await self._uploads.part(upload, int(ask.query["partNumber"]), body)
                return Reply(headers={"etag": f'"{about.etag}"'})
            case "PUT" if "x-amz-copy-source" in ask.headers:
                return await self._copy(ask)
            case "PUT":
                pieces = body_of(ask.receive, ask.headers)
                about = await self._store.put(ask.where, pieces, _described(ask.headers))
                return Reply(headers={"etag": f'"{about.etag}"'})
            case "POST" if "uploads" in ask.query:
                name = await self._uploads.begin(ask.where, _described(ask.headers))
                return _xml(s3_xml.begun(ask.where, name))
            case "POST" if upload:
                wanted = s3_xml.wanted_parts(await small_body(ask.receive, MAX_XML_BYTES))
                where, about = await self._uploads.complete(upload, wanted)
                return _xml(s3_xml.completed(where, about.etag))
            case "DELETE" if upload:
                await self._uploads.abort(upload)
                return Reply(204)
            case "DELETE":
                await self._store.delete(ask.where)
                return Reply(204)
        return None

    async def _get(self, ask: Ask) -> Reply:
        about = await self._store.head(ask.where)
        if ask.method == "HEAD":
            return Reply(headers=_object_headers(about), length=about.size)
        begin, end = _range(ask.headers.get("range", ""), about.size)
        about, stream = await self._store.read(ask.where, begin, end)
        headers = _object_headers(about)
        if "range" not in ask.headers:
            return Reply(headers=headers, stream=stream, length=about.size)
        headers["content-range"] = f"bytes {begin}-{end - 1}/{about.size}"
        return Reply(206, headers=headers, stream=stream, length=end - begin)

    async def _copy(self, ask: Ask) -> Reply:
        source = dict(parse_qsl(f"s={ask.headers['x-amz-copy-source']}"))["s"].lstrip("/")
        bucket, _, key = source.partition("/")
        about, stream = await self._store.read(Location(bucket, key))
        try:
            copied = await self._store.put(ask.where, stream, about)
        finally:
            await stream.aclose()
        return _xml(s3_xml.copied(copied))


def _taken_apart(scope: Scope, receive: Receive) -> Ask:
    bucket, _, key = scope["path"].removeprefix(PREFIX).lstrip("/").partition("/")
    headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    query.pop("x-id", None)  # the operation's name, which newer clients add
    return Ask(scope["method"], bucket, key, query, headers, receive)


def _check_expiry(query: dict[str, str]) -> None:
    if "Expires" in query and "Signature" in query:  # the second version of signatures
        if time.time() > int(query["Expires"]):
            raise StoreError(403, "AccessDenied", "Request has expired")
        return
    if "X-Amz-Expires" not in query:
        return
    signed_s = calendar.timegm(time.strptime(query.get("X-Amz-Date", ""), "%Y%m%dT%H%M%SZ"))
    if time.time() > signed_s + int(query["X-Amz-Expires"]):
        raise StoreError(403, "AccessDenied", "Request has expired")


def _described(headers: dict[str, str]) -> About:
    metadata = {k.removeprefix(_META): v for k, v in headers.items() if k.startswith(_META)}
    if sum(len(key) + len(value) for key, value in metadata.items()) > MAX_METADATA_BYTES:
        raise StoreError(400, "MetadataTooLarge", f"Metadata has {MAX_METADATA_BYTES} bytes.")
    return described(headers.get("content-type", ""), metadata)


def _object_headers(about: About) -> dict[str, str]:
    return {
        "content-type": about.content_type,
        "etag": f'"{about.etag}"',
        "last-modified": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(about.modified_s)),
        "accept-ranges": "bytes",
        **{f"{_META}{name}": value for name, value in about.metadata.items()},
    }


def _range(header: str, size: int) -> tuple[int, int]:
    """First byte, and the one after the last, of a Range header; the whole object without one."""
    if not header:
        return 0, size
    first, dash, last = header.removeprefix("bytes=").partition("-")
    if dash and not first and last.isdecimal():
        begin, end = max(0, size - int(last)), size
    elif dash and first.isdecimal() and (last.isdecimal() or not last):
        begin, end = int(first), min(size, int(last) + 1 if last else size)
    else:
        return 0, size  # not understood: as if it were not there
    if begin >= end:
        raise StoreError(416, "InvalidRange", "The requested range is not satisfiable")
    return begin, end


def _xml(body: bytes) -> Reply:
    return Reply(200, body, {"content-type": "application/xml"})


async def _send(send: Send, reply: Reply, request_id: str, head: bool) -> None:
    length = len(reply.body) or reply.length
    headers = {
        **(reply.headers or {}),
        "x-amz-request-id": request_id,
        **({} if reply.status == 204 else {"content-length": str(length)}),
    }
    encoded = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
    if reply.stream is not None and not head:
        try:
            async for piece in reply.stream:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            await reply.stream.aclose()
    await send({"type": "http.response.body", "body": b"" if head else reply.body})
