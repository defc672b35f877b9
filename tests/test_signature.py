"""What callers of the Open Inference Protocol send, as the model's signature and samples tell."""

from typing import Any

import numpy as np
import pytest
import torch

from servers.signature import Signature, Tensor, as_sent

IMAGES = Tensor("images", "FP32", [-1, 2])
SCORES = Tensor("scores", "FP32", [-1, 1])


def test_a_sample_is_tried_as_the_tensor_that_a_caller_would_send() -> None:
    """In the datatype and the library of the signature, whatever input_fn made of the sample."""
    sent = as_sent(Signature([IMAGES], [SCORES], "torch", "one"), np.array([[1.0, 2.0]]))
    assert isinstance(sent, torch.Tensor)
    assert sent.dtype == torch.float32
    assert sent.tolist() == [[1.0, 2.0]]


def test_samples_of_several_inputs_keep_their_container() -> None:
    """By name in a dict, by place in a tuple."""
    two = [IMAGES, Tensor("weight", "INT64", [-1])]
    sample = {"weight": [3], "images": [[1.0, 2.0]]}
    sent: Any = as_sent(Signature(two, [SCORES], "numpy", "dict"), sample)
    assert sent["weight"].dtype == np.int64
    assert sent["images"].dtype == np.float32
    sent = as_sent(Signature(two, [SCORES], "numpy", "tuple"), ([[1.0, 2.0]], [3]))
    assert [part.dtype for part in sent] == [np.float32, np.int64]


@pytest.mark.parametrize(
    "sample", [[[1.0, 2.0, 3.0]], [["a", "b"]], {"other": [[1.0, 2.0]]}, ([[1.0, 2.0]], 3), None]
)
def test_a_sample_that_is_no_such_tensor_is_not_tried(sample: Any) -> None:
    """Another shape, another kind, another name or number of inputs."""
    assert as_sent(Signature([IMAGES], [SCORES], "numpy", "one"), sample) is None
