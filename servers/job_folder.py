"""What is known of a batch job, on disk: it outlives any process that is killed.

job.json        the request, and when it came
objects.json    the input objects, listed once
start.json      when its first record could be sent
done.jsonl      a line for each finished object, written after its output is there
end.json        how the job ended; until then it is resumed
job.log         what SageMaker would show in the job's log
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bench.documents import write_json
from servers.agent import PROGRESS, ObjectResult
from servers.transform_request import TransformRequest

MAX_LOG_BYTES = 10 << 20


class InputObject(Struct, frozen=True):
    """One input, where its result goes, and its size as listed."""

    source: tuple[str, str]
    target: tuple[str, str]
    """Bucket and key of each."""
    size: int

    @property
    def name(self) -> str:
        return "/".join(self.source)


class JobFolder:
    """The files of one job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drafts = folder / "drafts"
        self.stop_file = folder / "stop"
        """Its existence says that the caller wants the job stopped."""
        self.leave_file = folder / "leave"
        """Its existence tells agents to give up what they are at work on."""
        self._done = folder / "done.jsonl"
        self._log = folder / "job.log"

    @classmethod
    def create(cls, folder: Path, request: TransformRequest, created_s: float) -> "JobFolder":
        """A folder for a new job; safe on the disk when this returns."""
        folder.mkdir(parents=True)
        document = {"request": msgspec.to_builtins(request), "created_s": created_s}
        _write_safely(folder / "job.json", document)
        return cls(folder)

    def read(self) -> tuple[TransformRequest, float]:
        """The request and when it came."""
        document = json.loads((self.folder / "job.json").read_text(encoding="utf-8"))
        return msgspec.convert(document["request"], TransformRequest), document["created_s"]

    def save_objects(self, objects: list[InputObject]) -> None:
        _write_safely(self.folder / "objects.json", msgspec.to_builtins(objects))

    def objects(self) -> list[InputObject] | None:
        """The list as saved; None when the job had not come so far."""
        path = self.folder / "objects.json"
        if not path.exists():
            return None
        return msgspec.json.decode(path.read_bytes(), type=list[InputObject])

    def start(self, now_s: float) -> float:
        """Note that the job starts; when it did first, in seconds since 1970."""
        path = self.folder / "start.json"
        if not path.exists():
            _write_safely(path, {"started_s": now_s})
        started_s: float = json.loads(path.read_text(encoding="utf-8"))["started_s"]
        return started_s

    def finish(self, result: ObjectResult) -> None:
        """Note a finished object, safe on the disk when this returns."""
        with self._done.open("ab") as file:
            file.write(msgspec.json.encode(result) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def finished(self) -> dict[int, ObjectResult]:
        """The finished objects by number; a line that was cut short is left out, and cut off."""
        if not self._done.exists():
            return {}
        content = self._done.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self._done, whole)
        lines = content[:whole].splitlines()
        results = [msgspec.json.decode(line, type=ObjectResult) for line in lines]
        return {result.number: result for result in results}

    def end(self, how: dict[str, Any]) -> None:
        """The job has ended; what only a running one needs is removed."""
        _write_safely(self.folder / "end.json", how)
        shutil.rmtree(self.drafts, ignore_errors=True)

    def ended(self) -> dict[str, Any] | None:
        path = self.folder / "end.json"
        if not path.exists():
            return None
        ended: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return ended

    def log(self, line: str) -> None:
        if not self._log.exists() or self._log.stat().st_size < MAX_LOG_BYTES:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def progress_file(self, lane: str) -> Path:
        return self.folder / f"{lane}.progress"

    def forget_progress(self, lane: str) -> None:
        """Before a lane begins another object."""
        self.progress_file(lane).unlink(missing_ok=True)

    def progress(self, lane: str) -> tuple[int, int, int]:
        """Records, bytes read and bytes written of the object that a lane is at work on."""
        try:
            packed = self.progress_file(lane).read_bytes()
        except FileNotFoundError:
            return 0, 0, 0
        return PROGRESS.unpack(packed) if len(packed) == PROGRESS.size else (0, 0, 0)


def _write_safely(path: Path, document: Any) -> None:
    write_json(path, document)
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
