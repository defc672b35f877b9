"""The bodies of S3's REST API, which are XML."""

import base64
import time
from collections.abc import Iterable
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from servers.s3_index import Listed, Query
from servers.store import About, Location, StoreError

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
OWNER = "weighbridge"


def error(code: str, message: str, request_id: str) -> bytes:
    root = Element("Error")
    _fill(root, {"Code": code, "Message": message, "RequestId": request_id})
    return _text(root)


def buckets(found: Iterable[tuple[str, float]]) -> bytes:
    root = Element("ListAllMyBucketsResult", xmlns=_NAMESPACE)
    _fill(SubElement(root, "Owner"), {"ID": OWNER, "DisplayName": OWNER})
    each = SubElement(root, "Buckets")
    for name, made_s in found:
        _fill(SubElement(each, "Bucket"), {"Name": name, "CreationDate": _date(made_s)})
    return _text(root)


def bucket_location() -> bytes:
    return _text(Element("LocationConstraint", xmlns=_NAMESPACE))


def listing(query: Query, found: Listed, encoded: bool) -> bytes:
    """The second version of a list; ``encoded``: keys as in a URL."""

    def name(key: str) -> str:
        return quote(key, safe="/") if encoded else key

    root = Element("ListBucketResult", xmlns=_NAMESPACE)
    _fill(
        root,
        {
            "Name": query.bucket,
            "Prefix": name(query.prefix),
            "MaxKeys": str(query.limit),
            "KeyCount": str(len(found.objects) + len(found.prefixes)),
            "IsTruncated": str(bool(found.next_after)).lower(),
        },
    )
    if query.delimiter:
        _fill(root, {"Delimiter": name(query.delimiter)})
    if encoded:
        _fill(root, {"EncodingType": "url"})
    if found.next_after:
        token = base64.urlsafe_b64encode(found.next_after.encode()).decode()
        _fill(root, {"NextContinuationToken": token})
    for key, about in found.objects:
        fields = {
            "Key": name(key),
            "LastModified": _date(about.modified_s),
            "ETag": f'"{about.etag}"',
            "Size": str(about.size),
            "StorageClass": "STANDARD",
        }
        _fill(SubElement(root, "Contents"), fields)
    for prefix in found.prefixes:
        _fill(SubElement(root, "CommonPrefixes"), {"Prefix": name(prefix)})
    return _text(root)


def begun(where: Location, upload: str) -> bytes:
    root = Element("InitiateMultipartUploadResult", xmlns=_NAMESPACE)
    _fill(root, {"Bucket": where.bucket, "Key": where.key, "UploadId": upload})
    return _text(root)


def completed(where: Location, etag: str) -> bytes:
    root = Element("CompleteMultipartUploadResult", xmlns=_NAMESPACE)
    _fill(root, {"Bucket": where.bucket, "Key": where.key, "ETag": f'"{etag}"'})
    return _text(root)


def parts(where: Location, upload: str, found: Iterable[tuple[int, About, str]]) -> bytes:
    root = Element("ListPartsResult", xmlns=_NAMESPACE)
    _fill(root, {"Bucket": where.bucket, "Key": where.key, "UploadId": upload})
    _fill(root, {"IsTruncated": "false"})
    for number, about, _ in found:
        fields = {"PartNumber": str(number), "ETag": f'"{about.etag}"', "Size": str(about.size)}
        fields["LastModified"] = _date(about.modified_s)
        _fill(SubElement(root, "Part"), fields)
    return _text(root)


def copied(about: About) -> bytes:
    root = Element("CopyObjectResult", xmlns=_NAMESPACE)
    _fill(root, {"ETag": f'"{about.etag}"', "LastModified": _date(about.modified_s)})
    return _text(root)


def deleted(keys: Iterable[str]) -> bytes:
    root = Element("DeleteResult", xmlns=_NAMESPACE)
    for key in keys:
        _fill(SubElement(root, "Deleted"), {"Key": key})
    return _text(root)


def wanted_parts(body: bytes) -> list[tuple[int, str]]:
    """Number and ETag of each part in a CompleteMultipartUpload."""
    root = _parsed(body)
    found = [part for part in root if _name(part) == "Part"]
    try:
        return [
            (int(_field(part, "PartNumber")), _field(part, "ETag").strip('"')) for part in found
        ]
    except ValueError:
        raise _malformed() from None


def keys_to_delete(body: bytes) -> list[str]:
    """The keys in a Delete."""
    return [_field(each, "Key") for each in _parsed(body) if _name(each) == "Object"]


def _parsed(body: bytes) -> Element:
    # Entities could make a small body grow without end; S3's own have no document type.
    if b"<!" in body:
        raise _malformed()
    try:
        return ElementTree.fromstring(body)
    except ElementTree.ParseError:
        raise _malformed() from None


def _malformed() -> StoreError:
    return StoreError(400, "MalformedXML", "The XML you provided was not well-formed.")


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _field(element: Element, name: str) -> str:
    for child in element:
        if _name(child) == name:
            return child.text or ""
    raise _malformed()


def _fill(element: Element, fields: dict[str, str]) -> None:
    for name, value in fields.items():
        SubElement(element, name).text = value


def _date(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at_s))


def _text(root: Element) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root)
