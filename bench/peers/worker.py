"""One tower in one other runtime, kept ready, with the commands of `crates/engine/examples/serve.rs`.

    python worker.py pytorch|onnxruntime|openvino-f32|openvino-bf16 SPECIFICATION

SPECIFICATION is JSON: onnx, checkpoint, variant, tower, threads, size (of an image's side).
"""
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "golden"))
import formula  # noqa: E402  the weights and pictures that serve.rs makes, too

CONTEXT = 77
END_OF_TEXT = 49407


def inputs(spec, batch):
    """The inputs of serve.rs: pixels [batch, 3, side, side] or ids [batch, 77]."""
    if spec["tower"] == "image":
        return np.stack([formula.image(f"p{i}", (3, spec["size"], spec["size"])).astype(np.float32) for i in range(batch)])
    rows = 320 + 100 * np.arange(batch)[:, None] + np.arange(CONTEXT)[None]
    rows[:, -1] = END_OF_TEXT
    return rows.astype(np.int64)


def pytorch(spec):
    """Eager, reparameterised; pixels in the better of two memory formats, which is found out for every batch."""
    import open_clip
    import safetensors.torch
    import timm.utils
    import torch

    torch.set_num_threads(spec["threads"])
    with torch.device("meta"):
        model = open_clip.create_model(spec["variant"], device="meta")
    missing = model.load_state_dict(safetensors.torch.load_file(spec["checkpoint"]), strict=False, assign=True).missing_keys
    if any(not key.endswith("num_batches_tracked") for key in missing):
        raise SystemExit(f"missing {missing[:3]}")
    # BatchNorms that stay count no batches when they evaluate.
    model = timm.utils.reparameterize_model(model).eval().requires_grad_(False)
    encode = model.encode_image if spec["tower"] == "image" else model.encode_text
    formats = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}

    def prepare(batch):
        given = torch.from_numpy(inputs(spec, batch))
        if spec["tower"] == "text":
            return lambda: encode(given), {}

        def timed(name):
            model.to(memory_format=formats[name])
            pixels = given.contiguous(memory_format=formats[name])
            times = []
            for _ in range(3):
                start = time.perf_counter()
                encode(pixels)
                times.append(time.perf_counter() - start)
            return min(times[1:])

        best = min(formats, key=timed)
        model.to(memory_format=formats[best])
        pixels = given.contiguous(memory_format=formats[best])
        return lambda: encode(pixels), {"memory_format": best}

    torch.inference_mode().__enter__()
    return prepare, lambda run: run().numpy()


def onnxruntime(spec):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = spec["threads"]
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(spec["onnx"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def prepare(batch):
        given = {name: inputs(spec, batch)}
        return lambda: session.run(None, given)[0], {}

    return prepare, lambda run: run()


def openvino(spec, precision):
    import openvino as ov

    core = ov.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": spec["threads"],
        "INFERENCE_PRECISION_HINT": precision,
    }

    def prepare(batch):
        # A model of a known batch is planned better.
        model = core.read_model(spec["onnx"])
        model.reshape([batch, *list(model.input(0).partial_shape)[1:]])
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        given = ov.Tensor(inputs(spec, batch))
        request.set_input_tensor(given)

        def run():
            request.infer()
            return request.get_output_tensor(0).data

        return run, {}

    return prepare, lambda run: run().copy()


def main():
    kind, spec = sys.argv[1], json.loads(sys.argv[2])
    # Libraries write notes to the standard output; answers go to what it was.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, _, precision = kind.partition("-")
    prepare, features = {"pytorch": pytorch, "onnxruntime": onnxruntime}.get(name, lambda s: openvino(s, precision))(spec)
    runs = {}
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "run":
            count, batch = map(int, numbers)
            if batch not in runs:
                # One at a time: what a batch wants of the weights' layout may not suit another.
                runs = {batch: prepare(batch)}
            run, facts = runs[batch]
            times = []
            for _ in range(count):
                start = time.perf_counter()
                run()
                times.append(1e3 * (time.perf_counter() - start))
            answer = {"ms": times, **facts}
        elif command == "features":
            if 1 not in runs:
                runs = {1: prepare(1)}
            answer = {"features": features(runs[1][0])[0].tolist()}
        else:
            raise SystemExit(f"no command {command}")
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
