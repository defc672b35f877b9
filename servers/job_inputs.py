"""Which objects a batch job reads, and where each result goes."""

import json

from servers.bucket_view import BucketView, NoSuchPlace, split_uri
from servers.job_folder import InputObject
from servers.transform_request import TransformRequest

MAX_MANIFEST_BYTES = 64 << 20


async def input_objects(request: TransformRequest, view: BucketView) -> list[InputObject]:
    """The input objects by key; NoSuchPlace when there are none or the manifest cannot be used.

    An output is called like its input with ``.out``, below S3OutputPath, with what the input's key
    has beyond the prefix's folder: of that, AWS's pages show both forms.
    """
    source = request.transform_input.data_source.s3_data_source
    bucket, prefix = split_uri(source.s3_uri)
    if source.s3_data_type == "ManifestFile":
        found = await _in_manifest(view, bucket, prefix)
    else:
        listed = await view.listed(bucket, prefix)
        found = [
            ((bucket, each.key), below(each.key, prefix), each.size)
            for each in listed
            if not each.key.endswith("/")
        ]
    if not found:
        raise NoSuchPlace(f"ClientError: No objects were found under {source.s3_uri}")
    out_bucket, out_prefix = split_uri(request.transform_output.s3_output_path)
    folder = out_prefix.rstrip("/") + "/" if out_prefix else ""
    return [
        InputObject(where, (out_bucket, f"{folder}{name}.out"), size) for where, name, size in found
    ]


def below(key: str, prefix: str) -> str:
    """The part of ``key`` below the folder that ``prefix`` names or lies in."""
    if key.startswith(prefix.rstrip("/") + "/") or not prefix:
        return key[len(prefix.rstrip("/")) :].lstrip("/")
    return key[prefix.rfind("/") + 1 :]


async def _in_manifest(
    view: BucketView, bucket: str, key: str
) -> list[tuple[tuple[str, str], str, int]]:
    text = await view.read(bucket, key, MAX_MANIFEST_BYTES)
    wrong = NoSuchPlace(
        f"ClientError: s3://{bucket}/{key} is no manifest: give a JSON array, first "
        '{"prefix": "s3://bucket/path/"}, then keys below it'
    )
    try:
        first, *names = json.loads(text)
        in_bucket, prefix = split_uri(first["prefix"])
    except (ValueError, TypeError, KeyError, IndexError):
        raise wrong from None
    if not all(isinstance(name, str) and name for name in names):
        raise wrong
    sizes = {each.key: each.size for each in await view.listed(in_bucket, prefix)}
    missing = [name for name in names if prefix + name not in sizes]
    if missing:
        raise NoSuchPlace(f"ClientError: s3://{in_bucket}/{prefix}{missing[0]} does not exist")
    return [((in_bucket, prefix + name), name, sizes[prefix + name]) for name in names]
