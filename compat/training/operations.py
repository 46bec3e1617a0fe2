"""Times single operations in PyTorch, forward and backward, on the shapes of the example `operations` of crates/autodiff.

    python compat/training/operations.py --threads 2 [--ours PATH_OF_EXAMPLE]

The better of the contiguous and the channels_last format counts, for each number. Backward is what `torch.autograd.grad` takes.
"""
import argparse
import subprocess
import time

import torch
import torch.nn.functional as F

BATCH, TEXTS = 16, 32


def fastest(run):
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def times(make, x, parameters):
    """Forward without a graph, and backward alone."""
    with torch.no_grad():
        forward = fastest(lambda: make(x))
    x = x.clone().requires_grad_(True)
    y = make(x)
    dy = torch.rand_like(y)
    backward = fastest(lambda: torch.autograd.grad(y, [x] + parameters, dy, retain_graph=True))
    return forward, backward


def row(name, size, make, x, parameters, formats=True):
    best = times(make, x, parameters)
    if formats:
        last = times(make, x.to(memory_format=torch.channels_last), parameters)
        best = tuple(min(a, b) for a, b in zip(best, last))
    print("| %s | %s | %.2f | %.2f |" % (name, size, *best), flush=True)


def convolution(name, i, o, k, stride, side, groups=1):
    w = torch.rand(o, i // groups, k, k, requires_grad=True)
    make = lambda x: F.conv2d(x, w, stride=stride, padding=k // 2, groups=groups)
    row(name, "%dx%dx%d" % (i, side, side), make, torch.rand(BATCH, i, side, side), [w])


def linear(i, o):
    w = torch.rand(o, i, requires_grad=True)
    row("linear, %d to %d" % (i, o), "%dx1x77" % i, lambda x: F.linear(x, w), torch.rand(TEXTS, 77, i), [w], False)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--ours")
    a = ap.parse_args()
    if a.ours:
        subprocess.run([a.ours, "--threads", str(a.threads)], check=True)
    torch.set_num_threads(a.threads)
    print("\nPyTorch %s, %d threads, ms, the fastest of five\n" % (torch.__version__, a.threads))
    print("| operation | input | forward | backward |\n|---|---|---|---|")
    convolution("3x3 stride 2", 3, 64, 3, 2, 256)
    convolution("depthwise 3x3", 64, 64, 3, 1, 64, 64)
    convolution("depthwise 7x7", 64, 64, 7, 1, 64, 64)
    convolution("depthwise 7x7", 256, 256, 7, 1, 16, 256)
    convolution("depthwise 7x7 stride 2", 64, 128, 7, 2, 64, 64)
    convolution("1x1, 64 to 192", 64, 192, 1, 1, 64)
    convolution("1x1, 192 to 64", 192, 64, 1, 1, 64)
    convolution("1x1, 256 to 768", 256, 768, 1, 1, 16)
    linear(512, 1536)
    linear(512, 2048)
    linear(2048, 512)
    norm = torch.nn.BatchNorm2d(64).train()
    row("BatchNorm", "64x64x64", norm, torch.rand(BATCH, 64, 64, 64), list(norm.parameters()))
    scale = torch.rand(64, 1, 1, requires_grad=True)
    row("layer scale", "64x64x64", lambda x: x * scale, torch.rand(BATCH, 64, 64, 64), [scale])
    row("GELU", "192x64x64", F.gelu, torch.rand(BATCH, 192, 64, 64), [])
    norm = torch.nn.LayerNorm(512)
    row("LayerNorm", "512x1x77", norm, torch.rand(TEXTS, 77, 512), list(norm.parameters()), False)

    def attention(x):
        q, k, v = (t.reshape(TEXTS, 77, 8, 64).transpose(1, 2) for t in x.chunk(3, dim=-1))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(TEXTS, 77, 512)

    row("attention, 8 heads", "1536x1x77", attention, torch.rand(TEXTS, 77, 1536), [], False)


if __name__ == "__main__":
    main()
