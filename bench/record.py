"""One request as it happened. Times are seconds on the run's clock; NaN is "not known"."""

import numpy as np
import numpy.typing as npt

RECORD = np.dtype(
    [
        ("seq", "<u4"),  # place in the schedule
        ("due_s", "<f8"),  # when it had to leave
        ("sent_s", "<f8"),  # when it left; NaN: dropped, never sent
        ("first_byte_s", "<f8"),  # when the answer began
        ("done_s", "<f8"),  # when the answer was complete, or had failed
        ("status", "<i2"),  # HTTP status; 0: no answer
        ("error", "S40"),  # error code; empty: answered as it should be
        ("cold", "?"),  # started an environment
        ("instance", "S24"),  # who answered
        ("model_s", "<f4"),  # measured: the container's answer, as its front end saw it
        ("overhead_s", "<f4"),  # measured: everything else in the front end but the start
        ("wait_s", "<f4"),  # measured: for a core of this machine to start on; not SageMaker's
        ("setup_s", "<f4"),  # measured: process start, imports, model load
        ("placement_s", "<f4"),  # modelled: finding a machine, pulling the image
        ("backlog_s", "<f4"),  # measured: in an asynchronous endpoint's queue, or a job's
        ("download_s", "<f4"),  # measured: reading the input object
        ("store_s", "<f4"),  # measured: writing the result object
        ("connect_s", "<f4"),  # measured: opening the connection, when the request opened one
        ("upload_s", "<f4"),  # measured: the caller's upload of the input object
        ("request_bytes", "<u4"),
        ("response_bytes", "<u4"),
    ]
)
"""What the load generator appends for each request, and the columns of requests.parquet."""

Records = npt.NDArray[np.void]


def read_records(packed: bytes) -> Records:
    """The whole records in ``packed``; a last one that was cut short is left out."""
    whole = len(packed) - len(packed) % RECORD.itemsize
    return np.frombuffer(packed[:whole], dtype=RECORD)
