"""The control operations of batch transform jobs."""

import msgspec

from servers.api_document import Document, arn, known, page_of, text_of
from servers.control import Operations
from servers.transform import TransformService
from servers.transform_request import parse_request


class JobOperations:
    """Creates, shows, lists and stops jobs."""

    def __init__(self, service: TransformService) -> None:
        self._service = service

    @property
    def table(self) -> Operations:
        return {
            "SageMaker.CreateTransformJob": self._create,
            "SageMaker.DescribeTransformJob": self._describe,
            "SageMaker.ListTransformJobs": self._list,
            "SageMaker.StopTransformJob": self._stop,
        }

    async def _create(self, body: Document) -> Document:
        job = self._service.create(parse_request(body))
        return {"TransformJobArn": arn("transform-job", job.name)}

    async def _describe(self, body: Document) -> Document:
        job = self._service.job(text_of(body, "TransformJobName"))
        counts = self._service.counts(job)
        shown = {
            **msgspec.to_builtins(job.request),
            "TransformJobArn": arn("transform-job", job.name),
            "TransformJobStatus": job.status,
            "FailureReason": job.reason or None,
            "CreationTime": job.created_s,
            "TransformStartTime": job.started_s,
            "TransformEndTime": job.ended_s,
            # Not the API's: boto3 leaves them out, curl and the command line see them.
            "Progress": msgspec.to_builtins(counts) if counts else None,
            "LaunchSeconds": job.parts_s,
        }
        return known(shown)

    async def _list(self, body: Document) -> Document:
        page, more = page_of(self._service.jobs, body)
        summaries = [
            known(
                {
                    "TransformJobName": job.name,
                    "TransformJobArn": arn("transform-job", job.name),
                    "CreationTime": job.created_s,
                    "TransformEndTime": job.ended_s,
                    "LastModifiedTime": job.modified_s,
                    "TransformJobStatus": job.status,
                    "FailureReason": job.reason or None,
                }
            )
            for job in page
        ]
        return {"TransformJobSummaries": summaries, **more}

    async def _stop(self, body: Document) -> Document:
        self._service.stop(text_of(body, "TransformJobName"))
        return {}
