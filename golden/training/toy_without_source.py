"""Runs train_toy.py without the patched trainer: with open_clip_torch 3.3.0 and timm 1.0.31, and the trainer's loss and schedule
written out here by this folder's README.

    python toy_without_source.py --formula .. --out DIR [--variant golden|causal]

`golden` gives toy.json again (float64 to its last digit, the notes on float32 nearly); `causal` gives toy_causal.json: a causal text tower, a
downsampling that keeps the width, heads of 8 in a width that is no multiple of 16, three samples, one teacher.
"""
import argparse
import math
import os
import sys
import types

import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))

CAUSAL = dict(
    salt="c:", embed_dim=20, image=64, layers=(1, 1, 1, 2), embed_dims=(8, 24, 24, 96), mlp_ratios=(2, 2, 2, 2), spatial=(5, 5),
    text=dict(context_length=9, vocab_size=30, width=40, heads=5, layers=2),
    batch=3, dims=[6], scales=[100.0], weights=[1.0, 1.0], log_scale=4.6,
    lr=3e-3, warmup=1, total=6, wd=0.1, beta1=0.9, beta2=0.98, eps=1e-6, clip=0.5)


class Reinforced:
    def __init__(self, teacher_dimension, distill_loss_weights, average_after_softmax, dist_logit_scale, cache_labels):
        self.dims, self.weights, self.scales = teacher_dimension, distill_loss_weights, dist_logit_scale

    def term(self, images, texts, scale, a, b):
        labels = torch.arange(len(images))
        of_images, of_texts = scale * images @ texts.T, scale * texts @ images.T
        clip = (F.cross_entropy(of_images, labels) + F.cross_entropy(of_texts, labels)) / 2
        a, b, n = torch.split(a, self.dims, 1), torch.split(b, self.dims, 1), len(self.dims)
        p = sum((s * x @ y.T).softmax(1) for s, x, y in zip(self.scales, a, b)) / n
        q = sum((s * y @ x.T).softmax(1) for s, x, y in zip(self.scales, a, b)) / n
        distill = -((p * of_images.log_softmax(1)).sum(1).mean() + (q * of_texts.log_softmax(1)).sum(1).mean()) / 2
        return self.weights[0] * clip, self.weights[1] * distill

    def __call__(self, image_features, text_features, syn_text_features, logit_scale, dist_image_features, dist_text_features,
                 dist_syn_text_features, output_dict):
        c, d = self.term(image_features, text_features, logit_scale, dist_image_features, dist_text_features)
        cs, ds = self.term(image_features, syn_text_features, logit_scale, dist_image_features, dist_syn_text_features)
        return {"contrastive_loss": c + cs, "distill_loss": d + ds}


def cosine_lr(optimiser, base, warmup, total):
    def rate(step):
        lr = base * (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) * base
        for group in optimiser.param_groups:
            group["lr"] = lr
        return lr
    return rate


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--formula", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--variant", default="golden", choices=["golden", "causal"])
    a = ap.parse_args()
    import open_clip.loss
    open_clip.loss.DRClipLoss = Reinforced
    scheduler = types.ModuleType("open_clip_train.scheduler")
    scheduler.cosine_lr = cosine_lr
    sys.modules["open_clip_train"] = types.ModuleType("open_clip_train")
    sys.modules["open_clip_train.scheduler"] = scheduler
    sys.path.insert(0, HERE)
    import train_toy
    train_toy.VARIANTS["causal"] = CAUSAL
    sys.argv = ["train_toy.py", "--formula", a.formula, "--reference", HERE, "--out", a.out, "--variant", a.variant]
    train_toy.main()


if __name__ == "__main__":
    main()
