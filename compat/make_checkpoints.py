"""Write checkpoints with formula weights, as the packages of both generations save them.

    python compat/make_checkpoints.py OUT [--only NAME…]

    OUT/MobileCLIP2-S0/        the hub's layout: open_clip_config.json, open_clip_model.safetensors
    OUT/mobileclip2_s0.pt      the bare state dict, called as the published file
    OUT/fused/mobileclip2_s0.pt    the same, reparameterised (where there is anything to fuse)
    OUT/mobileclip_s0.pt       the first package's names
    …
"""
import argparse
import json
from pathlib import Path

import open_clip
import torch
from reference import REFERENCES
from safetensors.torch import save_file


def save_hub_layout(reference, model, folder):
    folder.mkdir(exist_ok=True)
    config = {"model_cfg": open_clip.get_model_config(reference.name), "preprocess_cfg": reference.preprocess_cfg()}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors", metadata={"format": "pt"})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    arguments = parser.parse_args()
    (arguments.out / "fused").mkdir(parents=True, exist_ok=True)
    for reference in REFERENCES:
        if arguments.only and reference.name not in arguments.only:
            continue
        model = reference.filled()
        if not reference.first_package:
            save_hub_layout(reference, model, arguments.out / reference.name)
        torch.save(model.state_dict(), arguments.out / f"{reference.file}.pt")
        if reference.has_branches:
            fused = reference.reparameterised(model)
            torch.save(fused.state_dict(), arguments.out / "fused" / f"{reference.file}.pt")
        print(reference.name, "written", flush=True)


if __name__ == "__main__":
    main()
