"""Data capture of batch jobs: manifests that say which inputs gave which outputs."""

import asyncio
import json
import time
import uuid
from pathlib import Path

from servers.bucket_view import BucketView, split_uri
from servers.job_folder import InputObject
from servers.places import Draft

FORM = "%Y/%m/%d/%H"


async def capture(
    objects: list[InputObject], destination: str, view: BucketView, job: tuple[str, float, Path]
) -> None:
    """Write two manifests below ``destination``, for the inputs and the outputs of ``objects``.

    ``job`` is its name, its start in seconds since 1970, and a folder for drafts. Done again it
    writes the same objects under the same names.
    """
    name, began_s, drafts = job
    bucket, prefix = split_uri(destination)
    folder = f"{prefix.rstrip('/')}/" if prefix else ""
    hour = time.strftime(FORM, time.gmtime(began_s))
    for side in ("input", "output"):
        where = [each.source if side == "input" else each.target for each in objects]
        manifest = [{"prefix": f"s3://{where[0][0]}/"}, *(key for _, key in where)]
        key = f"{folder}{side}/{hour}/{uuid.uuid5(uuid.NAMESPACE_URL, f'{name}/{side}')}.json"
        location = view.location(bucket, key)
        await asyncio.to_thread(_write, location, drafts / side, json.dumps(manifest).encode())


def _write(location: str, draft: Path, content: bytes) -> None:
    with Draft(location, draft) as written:
        written.write(content)
        written.publish()
