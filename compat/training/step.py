"""Times training steps of open_clip's model in PyTorch, as the example `step` of crates/train does ours.

    python compat/training/step.py MobileCLIP2-S0 --batch 16 --threads 2 --steps 3 [--channels-last] [--ours PATH_OF_EXAMPLE]

Forward, backward and AdamW in f32 on two sets of captions, eager mode. With --ours, the example runs before and after, in the
same run. Times are wall and processor time; peak memory is counted beyond what loading took.
"""
import argparse
import os
import resource
import subprocess
import time

import open_clip
import torch


def memory_mb(key):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith(key))


def clip_loss(a, b, scale):
    logits = scale * a @ b.T
    labels = torch.arange(len(a))
    ce = torch.nn.functional.cross_entropy
    return (ce(logits, labels) + ce(logits.T, labels)) / 2


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("model", nargs="?", default="MobileCLIP2-S0")
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--steps", type=int, default=3)
    ap.add_argument("--channels-last", action="store_true")
    ap.add_argument("--ours")
    a = ap.parse_args()

    def ours():
        if a.ours:
            print("ours:", flush=True)
            subprocess.run([a.ours, a.model, "--batch", str(a.batch), "--threads", str(a.threads), "--steps", str(a.steps)], check=True)

    ours()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    model = open_clip.create_model(a.model)
    model.train()
    form = "channels_last" if a.channels_last else "contiguous"
    if a.channels_last:
        model = model.to(memory_format=torch.channels_last)
    size = model.visual.image_size
    side = size[0] if isinstance(size, (tuple, list)) else size
    images = torch.rand(a.batch, 3, side, side)
    if a.channels_last:
        images = images.to(memory_format=torch.channels_last)
    texts = torch.randint(1, 40000, (2 * a.batch, model.context_length))
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": 0.2}, {"params": rest, "weight_decay": 0.0}], lr=1e-4)
    loaded = memory_mb("VmRSS")
    print("PyTorch %s, %s, %d threads:" % (torch.__version__, form, a.threads))
    for step in range(a.steps):
        start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        optimiser.zero_grad()
        f = model.encode_image(images, normalize=True)
        g = model.encode_text(texts, normalize=True)
        scale = model.logit_scale.exp()
        loss = clip_loss(f, g[:a.batch], scale) + clip_loss(f, g[a.batch:], scale)
        loss.backward()
        walked = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        end, now = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        print("step %d: %.3f s (optimiser %.3f s), processor %.2f s user, %.2f s system, loss %.5f"
              % (step, end - start, end - walked, now.ru_utime - used.ru_utime, now.ru_stime - used.ru_stime, loss.item()), flush=True)
    print("peak memory %.0f MB beyond the %.0f MB after loading" % (memory_mb("VmHWM") - loaded, loaded), flush=True)
    ours()


if __name__ == "__main__":
    main()
