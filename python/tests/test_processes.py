"""Other threads, other processes, Ctrl-C."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import PHOTOS

PHOTO = PHOTOS / "coffee_444.jpg"


def test_several_threads_at_once(model):
    files = [PHOTOS / "china.jpg", PHOTO, PHOTOS / "flower.jpg"] * 4
    expected = [model.encode_image(file) for file in files]
    with ThreadPoolExecutor(4) as pool:
        for got, row in zip(pool.map(model.encode_image, files), expected, strict=True):
            assert np.array_equal(got, row)


def test_others_run_meanwhile(tiny):
    """One call that takes long, and a thread that counts while it lasts: with the lock held, it would count next to nothing."""
    model = tiny.load(threads=1, image_size=512)
    picture = np.zeros((512, 512, 3), np.uint8)
    model.encode_image(picture)
    counted, is_over = 0, False

    def count():
        nonlocal counted
        while not is_over:
            counted += 1
            time.sleep(0.0001)

    counter = threading.Thread(target=count)
    counter.start()
    before, start = counted, time.monotonic()
    model.encode_image([picture] * 4)
    taken, during = time.monotonic() - start, counted - before
    is_over = True
    counter.join()
    # A switch is asked for every 5 ms at the latest where both want to run.
    assert during >= taken / 0.005, f"{during} in {taken} s"


def test_a_model_travels_by_pickle(model):
    other = pickle.loads(pickle.dumps(model))
    assert (other.threads, other.name) == (model.threads, model.name)
    assert np.array_equal(other.encode_image(PHOTO), model.encode_image(PHOTO))


def in_a_fork(work) -> str:
    """What `work` returns in a forked process, which must end by itself."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, work().encode())
        os.close(writing)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_after_a_fork(tiny):
    model = tiny.load(threads=2)
    expected = model.encode_image(PHOTO)

    def used() -> str:
        nonlocal model
        try:
            model.encode_image(PHOTO)
        except RuntimeError as error:
            said = str(error)
        model = tiny.load(threads=2)  # the old one is dropped, whose threads are the parent's
        return said if np.array_equal(model.encode_image(PHOTO), expected) else "other numbers"

    assert "forked" in in_a_fork(used)
    single = tiny.load(threads=1)
    single.encode_image(PHOTO)
    assert in_a_fork(lambda: str(np.array_equal(single.encode_image(PHOTO), expected))) == "True"


def interrupted(code: str, environment: dict[str, str], until: threading.Event | None = None) -> float:
    """Seconds from a Ctrl-C to the end of a program that says `ready` and would never end."""
    program = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    if until is not None:
        assert until.wait(30)
    time.sleep(0.3)
    start = time.monotonic()
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=30)
    assert "KeyboardInterrupt" in said, said
    return time.monotonic() - start


def test_ctrl_c_in_a_long_list(tiny):
    code = f"""
import itertools, mobileclip
model = mobileclip.load({str(tiny.checkpoint)!r}, variant={str(tiny.variant)!r})
print("ready", flush=True)
model.encode_image(itertools.repeat({str(PHOTO)!r}))
"""
    assert interrupted(code, {}) < 5


def test_ctrl_c_while_the_hub_is_silent(tmp_path):
    with socket.socket() as hub:
        hub.bind(("127.0.0.1", 0))
        hub.listen()
        asked = threading.Event()

        def accept():
            connection, _ = hub.accept()
            asked.set()
            time.sleep(20)
            connection.close()

        threading.Thread(target=accept, daemon=True).start()
        code = 'import mobileclip; print("ready", flush=True); mobileclip.load("MobileCLIP2-S0")'
        environment = {
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path),
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}",
        }
        assert interrupted(code, environment, asked) < 5


def test_ctrl_c_while_another_process_has_the_shard(tiny, tmp_path):
    """The other one is stopped: it neither goes on nor gives its shard back."""
    caption = tmp_path / "caption.txt"
    caption.write_text("a cup of coffee")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for i in range(100):
            tar.add(PHOTO, f"{i:03}.jpg")
            tar.add(caption, f"{i:03}.txt")
    code = f"""
from mobileclip.reinforce import Embeddings, reinforce
stage = Embeddings([({str(tiny.checkpoint)!r}, {str(tiny.variant)!r})], augmentations=20)
SAID
reinforce({str(tmp_path / "0.tar")!r}, {str(tmp_path / "out")!r}, stage, threads=1, watch=watch)
"""
    says_when_it_works = code.replace("SAID", 'watch = lambda samples, *_: samples and print("ready", flush=True)')
    says_at_once = code.replace("SAID", 'watch = None; print("ready", flush=True)')
    other = subprocess.Popen([sys.executable, "-c", says_when_it_works], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        other.send_signal(signal.SIGSTOP)
        assert interrupted(says_at_once, {}) < 5
    finally:
        other.kill()
        other.wait()
