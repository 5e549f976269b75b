"""Random tensors and comparisons. The tolerances are those of the project's conformance table."""

import os

import numpy as np

GLOBAL_ERROR = {"float32": 2e-6, "float16": 6e-4, "bfloat16": 4e-3}


def tensors(*shapes, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def generator(seed):
    """Random numbers of a seed that pytest shows where a test fails; ATTN_TEST_SEED shifts it."""
    seed += int(os.environ.get("ATTN_TEST_SEED", "0"))
    print("seed", seed)
    return np.random.default_rng(seed)


def random(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def poison(*shape, dtype=np.float32):
    """Memory for a result, which must be written whole."""
    return np.full(shape, np.nan, dtype)


def assert_close(actual, expected, dtype="float32"):
    actual = np.asarray(actual).astype(np.float64)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    error = np.linalg.norm(actual - expected)
    assert error <= GLOBAL_ERROR[dtype] * max(np.linalg.norm(expected), 1e-30), f"relative error {error}"


def assert_lse_close(actual, expected):
    actual = np.asarray(actual)
    assert actual.shape == expected.shape and actual.dtype == np.float32
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    error = np.abs(actual[finite].astype(np.float64) - expected[finite])
    assert (error <= 2e-5 * np.maximum(1, np.abs(expected[finite]))).all()
