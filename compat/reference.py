"""The Python side: the models by name, filled by the formula or loaded from a checkpoint as their own packages load them."""
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import open_clip
import timm.utils
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "golden"))
import formula  # noqa: E402  beside the goldens, whose weights it makes

# Where cargo puts it, if nothing else is said.
BINARY = Path(os.environ.get("MOBILECLIP_BINARY", ROOT / "target/release/mobileclip"))


@dataclass(frozen=True)
class Reference:
    """One model: `name` as its package knows it, `file` as the published bare weights are called."""

    name: str
    file: str
    first_package: bool = False

    @property
    def has_branches(self):
        """Whether there is anything to reparameterise; the ViT towers have nothing."""
        return not self.name.lower().endswith("b")

    def build(self, fused=False):
        """The network with weights of no meaning, in evaluation mode."""
        torch.manual_seed(0)
        if self.first_package:
            import mobileclip  # Not installed where only the second generation is looked at.

            model = mobileclip.create_model_and_transforms(self.name, reparameterize=fused)[0]
        else:
            model = open_clip.create_model(self.name)
            if fused:
                model = timm.utils.reparameterize_model(model)
        return model.eval()

    def filled(self):
        """The network with formula weights, train form."""
        model = self.build()
        formula.fill_state_dict(model)
        return model

    def reparameterised(self, model):
        """A copy of `model` with its branches fused, by the function of its own package."""
        if self.first_package:
            from mobileclip.modules.common.mobileone import reparameterize_model

            return reparameterize_model(model).eval()
        return timm.utils.reparameterize_model(model).eval()

    def preprocess_cfg(self):
        """`preprocess_cfg` of the published weights."""
        if self.first_package:
            return {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear", "resize_mode": "shortest"}
        tag, = open_clip.list_pretrained_tags_by_model(self.name)
        published = open_clip.get_pretrained_cfg(self.name, tag)
        return {
            "mean": list(published["mean"]), "std": list(published["std"]),
            "interpolation": published["interpolation"], "resize_mode": published["resize_mode"],
        }

    def transform(self):
        """The published weights' preprocessing, as the model's own package does it."""
        if self.first_package:
            import mobileclip

            return mobileclip.create_model_and_transforms(self.name, reparameterize=False)[2]
        cfg = self.preprocess_cfg()
        size = open_clip.get_model_config(self.name)["vision_cfg"]["image_size"]
        return image_transform_v2(PreprocessCfg(size=size, **cfg), is_train=False)

    def load(self, path):
        """(model, transform) of a checkpoint; its form is in the path: a hub's directory, `.pt`, `fused/*.pt`."""
        if path.is_dir():
            model, transform = open_clip.create_model_from_pretrained(f"local-dir:{path}")
            return model.eval(), transform
        model = self.build(fused=path.parent.name == "fused")
        model.load_state_dict(torch.load(path, weights_only=True))
        return model, self.transform()


REFERENCES = [
    Reference("MobileCLIP2-S0", "mobileclip2_s0"),
    Reference("MobileCLIP2-S2", "mobileclip2_s2"),
    Reference("MobileCLIP2-B", "mobileclip2_b"),
    Reference("MobileCLIP2-S3", "mobileclip2_s3"),
    Reference("mobileclip_s0", "mobileclip_s0", first_package=True),
    Reference("mobileclip_s2", "mobileclip_s2", first_package=True),
    Reference("mobileclip_b", "mobileclip_b", first_package=True),
]

# Sixteen bits of gray become nearly all white in Pillow; we scale them sensibly instead, on purpose.
EXCUSED = {"astronaut_gray16.png", "astronaut_gray16_dark.png"}


def photos():
    """The photographs of the goldens, but for those that are read otherwise on purpose."""
    images = ROOT / "golden/images"
    paths = [*(images / "photos").iterdir(), *(ROOT / "golden/images_small").glob("*.png")]
    return sorted(p for p in paths if p.name not in EXCUSED)


@torch.inference_mode()
def image_features(model, transform, paths):
    """[photos, D], one photo at a time. EXIF is ignored, as both packages do; RGB comes before the resize."""
    rows = [model.encode_image(transform(Image.open(path).convert("RGB"))[None]) for path in paths]
    return torch.cat(rows)


@torch.inference_mode()
def text_features(model, texts):
    """[texts, D]; all models of the family have one tokenizer."""
    return model.encode_text(open_clip.get_tokenizer("ViT-B-16")(texts))


def relative(ours, theirs):
    """The largest norm of a row's difference over the norm of the row."""
    difference = (ours.double() - theirs.double()).norm(dim=-1) / theirs.double().norm(dim=-1)
    return float(difference.max())
