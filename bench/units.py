"""Types that several nouns share: seconds, rates, due times."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

DueTimes = npt.NDArray[np.float64]

MAX_REQUESTS = 5_000_000
"""Most requests one schedule may hold: a typing error in a rate must not fill the memory."""

Rate = Annotated[float, Meta(gt=0, le=100_000, description="requests per second")]
Seconds = Annotated[float, Meta(gt=0, le=1e9, description="seconds")]
