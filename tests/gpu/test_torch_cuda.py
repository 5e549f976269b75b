"""The Python package on arrays of PyTorch, CuPy and JAX on a GPU; needs only `attn` and PyTorch there.

Results are compared with those of the same calls on the CPU. Streams, graphs and the memory of arrays are what differs.
"""

import gc
import importlib
import unittest

import numpy as np
import torch

import attn

DEVICE = "cuda:0"


def needs(name):
    """An optional framework; skips the test where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise unittest.SkipTest(str(error)) from None


def random(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator).to(dtype)


def assert_close(got, wanted, dtype=torch.float32):
    tolerance = {torch.float32: 4e-6, torch.float16: 2e-3, torch.bfloat16: 1.2e-2}[dtype]
    got, wanted = got.detach().float().cpu(), wanted.float()
    assert got.shape == wanted.shape
    error = (got - wanted).norm() / wanted.norm()
    assert error <= tolerance, f"relative error {float(error)}"


def qkv(dtype=torch.float32, tokens=50, seed=0):
    return [random(2, tokens, heads, 64, dtype=dtype, seed=seed + n) for n, heads in enumerate((8, 2, 2))]


def busy(stream, milliseconds=50):
    with torch.cuda.stream(stream):
        torch.cuda._sleep(int(milliseconds * 1e6))


@unittest.skipUnless(torch.cuda.is_available(), "PyTorch finds no GPU")
class OnAGpu(unittest.TestCase):
    def test_attention(self):
        for dtype in [torch.float32, torch.float16, torch.bfloat16]:
            with self.subTest(dtype=dtype):
                self.check_attention(dtype)

    def check_attention(self, dtype):
        arrays = qkv(dtype)
        out, lse = attn.attention(*(x.to(DEVICE) for x in arrays), causal="bottom_right", return_lse=True)
        assert out.device == torch.device(DEVICE) and out.dtype == dtype and lse.dtype == torch.float32
        wanted, wanted_lse = attn.attention(*arrays, causal="bottom_right", return_lse=True)
        assert_close(out, wanted, dtype)
        assert_close(lse, wanted_lse, dtype)
        given = torch.empty_like(out)
        assert attn.attention(*(x.to(DEVICE) for x in arrays), causal="bottom_right", out=given) is given
        assert torch.equal(given, out)

    def test_strides_and_layouts(self):
        q, k, v = (x.to(DEVICE).transpose(1, 2).contiguous() for x in qkv())
        out = attn.attention(q, k, v, layout="bhsd")
        wanted = attn.attention(*(x.transpose(1, 2).contiguous() for x in (q, k, v)))
        assert torch.equal(out.transpose(1, 2), wanted)

    def test_packed(self):
        lengths = torch.tensor([0, 7, 7, 40], dtype=torch.int32)
        q, k, v = (random(40, heads, 64, seed=heads) for heads in (4, 2, 2))
        options = {"layout": "thd", "max_seqlen_q": 33, "max_seqlen_kv": 33, "causal": "top_left"}
        wanted = attn.attention(q, k, v, cu_seqlens_q=lengths, cu_seqlens_kv=lengths, **options)
        on_gpu = lengths.to(DEVICE)
        out = attn.attention(*(x.to(DEVICE) for x in (q, k, v)), cu_seqlens_q=on_gpu, cu_seqlens_kv=on_gpu, **options)
        assert_close(out, wanted)
        del options["max_seqlen_q"]
        with self.assertRaisesRegex(ValueError, "max_seqlen_q = None"):
            attn.attention(*(x.to(DEVICE) for x in (q, k, v)), cu_seqlens_q=on_gpu, cu_seqlens_kv=on_gpu, **options)

    def test_append_and_decode(self):
        for paged in [False, True]:
            with self.subTest(paged=paged):
                self.check_append_and_decode(paged)

    def check_append_and_decode(self, paged):
        def decode(device):
            shape = (8, 16, 2, 64) if paged else (2, 64, 2, 64)
            k_cache, v_cache = torch.zeros(2, *shape, dtype=torch.bfloat16, device=device)
            table = torch.tensor([[3, 0, 7, 1], [2, 6, 4, 5]], dtype=torch.int32, device=device)
            pages = {"block_table": table} if paged else {}
            lengths = torch.zeros(2, dtype=torch.int32, device=device)
            results = []
            for step, new in enumerate((9, 1, 1, 20)):
                q, k, v = (
                    random(2, new, heads, 64, dtype=torch.bfloat16, seed=10 * step + n).to(device)
                    for n, heads in enumerate((8, 2, 2))
                )
                lengths += new
                q = attn.append(k, v, k_cache, v_cache, q=q, rope=attn.Rope(), seqlens_kv=lengths, **pages)
                results.append(attn.attention(q, k_cache, v_cache, seqlens_kv=lengths, causal="bottom_right", **pages))
            return results, k_cache, v_cache

        (got, k_gpu, v_gpu), (wanted, k_cpu, v_cpu) = decode(DEVICE), decode("cpu")
        assert torch.equal(v_gpu.cpu(), v_cpu)
        assert_close(k_gpu, k_cpu, torch.bfloat16)
        for one, other in zip(got, wanted):
            assert_close(one, other, torch.bfloat16)

    def test_merge(self):
        for parts in [1, 3, 60]:
            with self.subTest(parts=parts):
                self.check_merge(parts)

    def check_merge(self, parts):
        outs = [random(2, 5, 4, 64, seed=n) for n in range(parts)]
        lses = [random(2, 4, 5, seed=n) for n in range(parts)]
        wanted, wanted_lse = attn.merge(outs, lses, return_lse=True)
        out, lse = attn.merge([x.to(DEVICE) for x in outs], [x.to(DEVICE) for x in lses], return_lse=True)
        assert_close(out, wanted)
        assert_close(lse, wanted_lse)

    def test_the_current_stream_orders(self):
        arrays = qkv()
        wanted = attn.attention(*arrays)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            q, k, v = (torch.zeros_like(x, device=DEVICE) for x in arrays)
            sources = [x.to(DEVICE) for x in arrays]
            attn.attention(q, k, v)  # plans
            busy(stream)
            for target, source in zip((q, k, v), sources):
                target.copy_(source)
            out = attn.attention(q, k, v)  # not before the copies are done
            doubled = out * 2  # not before attention is done
        stream.synchronize()
        assert_close(out, wanted)
        assert torch.equal(doubled, out * 2)

    def test_another_stream_waits_for_the_producer(self):
        arrays = qkv()
        wanted = attn.attention(*arrays)
        side = torch.cuda.Stream()
        q, k, v = (torch.zeros_like(x, device=DEVICE) for x in arrays)
        sources = [x.to(DEVICE) for x in arrays]
        attn.attention(q, k, v, stream=side)  # plans
        torch.cuda.synchronize()
        busy(torch.cuda.current_stream())
        for target, source in zip((q, k, v), sources):
            target.copy_(source)
        out = attn.attention(q, k, v, stream=side)
        side.synchronize()
        assert_close(out, wanted)
        assert_close(attn.attention(q, k, v, stream=0), wanted)

    def test_graph(self):
        arrays = qkv(tokens=1)
        q, k, v = (x.to(DEVICE) for x in arrays)
        out = torch.empty_like(q)
        attn.attention(q, k, v, out=out)  # plans
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            attn.attention(q, k, v, out=out)
        for seed in range(3):
            fresh = qkv(tokens=1, seed=100 + seed)
            for target, source in zip((q, k, v), fresh):
                target.copy_(source)
            graph.replay()
            torch.cuda.synchronize()
            assert_close(out, attn.attention(*fresh))

    def test_plans_and_handles(self):
        handle = attn.Handle(device=DEVICE)
        assert handle.device == DEVICE
        plan = attn.Plan(heads_q=8, heads_k=2, dim_qk=64, max_q=64, batch=2, outputs=("lse",), handle=handle)
        arrays = qkv()
        out, lse = plan(*(x.to(DEVICE) for x in arrays))
        assert_close(out, attn.attention(*arrays))
        assert plan.describe()["backend"] == "cuda"
        with self.assertRaisesRegex(attn.Error, "q: its memory is on the host"):
            plan(*arrays)
        with self.assertRaisesRegex(attn.Error, "k: its memory is on"):
            attn.attention(arrays[0].to(DEVICE), arrays[1], arrays[2].to(DEVICE))
        assert {"cpu", "cuda"} <= {d.kind for d in attn.devices()}

    def test_checked_mode(self):
        _, k, v = (x.to(DEVICE) for x in qkv())
        caches = torch.zeros(2, 2, 64, 2, 64, device=DEVICE)
        lengths = torch.tensor([50, 64], dtype=torch.int32, device=DEVICE)
        attn.append(k, v, *caches, seqlens_kv=lengths, flags=["checked"])
        caches.zero_()
        lengths[1] = 65
        with self.assertRaisesRegex(attn.Error, r"seqlens_kv: element 1 \(row-major\) = 65") as caught:
            attn.append(k, v, *caches, seqlens_kv=lengths, flags=["checked"])
        assert caught.exception.status_name == "ATTN_ERROR_DATA"
        assert torch.equal(caches[0, 0, :50], k[0]) and not caches[:, 1].any()

    def test_memory_does_not_grow(self):
        def work(count):
            for _ in range(count):
                q, k, v = torch.ones(3, 1, 256, 8, 64, device=DEVICE)
                attn.attention(q, k, v, return_lse=True)
            torch.cuda.synchronize()
            gc.collect()
            return torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[0]

        allocated, free = work(20)
        after, free_after = work(500)
        assert after <= allocated and free - free_after < 64 << 20

    def test_cupy(self):
        cupy = needs("cupy")
        arrays = [x.numpy() for x in qkv()]
        wanted = torch.from_numpy(attn.attention(*arrays))
        with cupy.cuda.Stream(non_blocking=True) as stream:
            out = attn.attention(*(cupy.asarray(x) for x in arrays))
            assert isinstance(out, cupy.ndarray)
            doubled = out * 2
            stream.synchronize()
        assert_close(torch.from_numpy(out.get()), wanted)
        np.testing.assert_array_equal(doubled.get(), out.get() * 2)

        class Interface:  # what an array that has no DLPack says
            def __init__(self, array, stream=None):
                self.array = array
                self.__cuda_array_interface__ = {**array.__cuda_array_interface__, "stream": stream}

        side = cupy.cuda.Stream(non_blocking=True)
        with side:
            inputs = [cupy.asarray(x) for x in arrays]
            result = cupy.empty_like(inputs[0])
        for stream in (None, 1, side.ptr):
            result[...] = 0
            cupy.cuda.Device().synchronize()
            attn.attention(*(Interface(x, stream) for x in inputs), out=Interface(result), stream=0)
            assert_close(torch.from_numpy(result.get()), wanted)

    def test_jax(self):
        jax = needs("jax")
        if jax.default_backend() != "gpu":
            self.skipTest("JAX finds no GPU")
        arrays = [x.numpy() for x in qkv()]
        wanted = torch.from_numpy(attn.attention(*arrays))
        for _ in range(20):  # results are whole when the call returns, whatever JAX does next
            q, k, v = (jax.numpy.asarray(x) for x in arrays)
            out, lse = attn.attention(q * 1, k, v, return_lse=True)
            del q, k, v
            assert isinstance(out, jax.Array) and isinstance(lse, jax.Array)
            assert_close(torch.from_numpy(np.array(out + 0)), wanted)
        bfloat16 = attn.attention(*(jax.numpy.asarray(x, dtype=jax.numpy.bfloat16) for x in arrays))
        assert bfloat16.dtype == jax.numpy.bfloat16
        with self.assertRaisesRegex(ValueError, "k_cache is .*read-only"):
            attn.append(bfloat16, bfloat16, bfloat16, bfloat16)


if __name__ == "__main__":
    unittest.main()
