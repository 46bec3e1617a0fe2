"""Reinforced shards on a Ray cluster: a pool of actors, each with the teachers loaded, which make one shard after another.

>>> from mobileclip.ray import reinforce
>>> from mobileclip.reinforce import Embeddings
>>> reinforce("/data/{00000..09999}.tar", "/data/reinforced", Embeddings(["ViT-L-14:openai"]), max_actors=64)

Inputs and output are paths that every node has (a shared file system). Paths and counts go through Ray, samples never do. A shard appears in
the output when it is whole; whatever is killed meanwhile, its shards are made again by others, with the same bytes.

``python -m mobileclip.ray`` takes the published generator's flags. Needs ``pip install mobileclip[ray]``.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

try:
    import ray
    from ray.exceptions import RayActorError, RayTaskError
except ImportError as error:
    raise ImportError("mobileclip.ray needs Ray: pip install 'mobileclip[ray]'") from error

from .reinforce import Embeddings, Output, Reinforcer, expand, output_of

#: Actors that may die over one shard before it is given up: it might be what kills them.
_DEATHS = 5
#: Shards that may fail before the run is given up.
_FAILURES = 10
#: Actors that may die in a row before they have loaded their teachers.
_STILLBORN = 5
#: Seconds between two looks at whether the pool should grow.
_TICK = 1.0

#: What is told of a run: ``{"event": "begun" | "made" | "found" | "failed" | "lost" | "actor", …}``.
Tell = Callable[[dict[str, Any]], None]


class _Engine:
    """The actor: loaded teachers."""

    def __init__(self, stage: Embeddings, output: Output, threads: int, batch: int) -> None:
        self._wishes = (stage, output, threads, batch)

    def ready(self) -> dict[str, Any]:
        """Loads the teachers. (What this raises comes through; what `__init__` raises is only told as the actor's death.)"""
        stage, output, threads, batch = self._wishes
        self._reinforcer = Reinforcer(stage, output, threads=threads, batch=batch)
        return {"pid": os.getpid(), "node": ray.get_runtime_context().get_node_id()}

    def shard(self, path: str, number: int) -> dict[str, Any]:
        return self._reinforcer.shard(path, number)

    def finish(self, inputs: list[str]) -> dict[str, Any]:
        """Finds that all shards are there, and writes the manifest."""
        return self._reinforcer.run(inputs)


@dataclass
class _Pool:
    """The actors, and what each of them does."""

    make: Callable[[], Any]
    tell: Tell
    #: Actors that load their teachers, or wait for a place in the cluster.
    coming: dict[Any, Any] = field(default_factory=dict)
    #: Actors without work, with what they said of themselves.
    idle: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    #: By the result that is waited for: the actor, what it said of itself, its shard's number.
    busy: dict[Any, tuple[Any, dict[str, Any], int]] = field(default_factory=dict)
    stillborn: int = 0

    def __len__(self) -> int:
        return len(self.coming) + len(self.idle) + len(self.busy)

    def grow(self) -> None:
        actor = self.make()
        self.coming[actor.ready.remote()] = actor

    def came(self, result: Any) -> None:
        """An actor has loaded its teachers, or died before."""
        actor = self.coming.pop(result)
        try:
            facts = ray.get(result)
        except RayTaskError as error:
            # What is wrong with the teachers is so for all actors.
            raise error.cause from None
        except RayActorError as error:
            self.stillborn += 1
            if self.stillborn >= _STILLBORN:
                raise RuntimeError(f"{self.stillborn} actors ended one after another before they were ready") from error
            return
        self.stillborn = 0
        self.idle.append((actor, facts))
        self.tell({"event": "actor", **facts})

    def shrink(self, keep: int) -> None:
        """Gives back actors that have nothing to do."""
        while self.idle and len(self) > keep:
            ray.kill(self.idle.pop()[0])
        for result in [result for result in self.coming if len(self) > keep]:
            ray.kill(self.coming.pop(result))

    def end(self) -> None:
        for actor in [actor for actor, _ in self.idle] + [actor for actor, *_ in self.busy.values()]:
            ray.kill(actor)
        for actor in self.coming.values():
            ray.kill(actor)


def reinforce(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str] | Output,
    stage: Embeddings,
    *,
    min_actors: int = 1,
    max_actors: int | None = None,
    threads: int = 1,
    batch: int = 16,
    resources: dict[str, float] | None = None,
    wait_for_min_actors_s: float | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Sends shards through a stage on a Ray cluster (the one that ``ray.init`` has joined, else a local one).

    The pool begins with ``min_actors``, grows one by one to ``max_actors`` while shards wait and the cluster has room, and shrinks when
    none wait. Each actor asks for ``threads`` CPUs and computes with so many threads.

    Args:
        inputs: paths, folders, brace lists (``shards/{00000..00019}.tar``), wildcards; looked up where this is called.
        output: a folder, or more of it.
        stage: what is made; see :class:`mobileclip.reinforce.Embeddings`.
        min_actors, max_actors: how many actors; as many as ``min_actors`` at most if not given.
        threads: of each actor.
        batch: samples that a thread takes at a time.
        resources: what else an actor needs of Ray's resources.
        wait_for_min_actors_s: fails if ``min_actors`` are not ready by then.
        tell: is told what happens, a dictionary each.

    Returns:
        Counts as those of :func:`mobileclip.reinforce.reinforce`, of this run; ``actors_lost`` besides.

    Raises:
        ValueError, OSError: what is wrong with the teachers or the folder.
        RuntimeError: shards that could not be made, by name; all others are there.
    """
    max_actors = min_actors if max_actors is None else max_actors
    if not 1 <= min_actors <= max_actors:
        raise ValueError(f"{min_actors} to {max_actors} actors: at least 1, and not more at least than at most")
    shards = [os.path.abspath(path) for path in expand(inputs)]
    target = output_of(output)
    target = Output(os.path.abspath(target.folder), target.names, target.compress)
    _check_names(shards, target)
    if not ray.is_initialized():
        ray.init()

    actor_class = ray.remote(num_cpus=threads, max_restarts=0, max_task_retries=0, resources=resources or {})(_Engine)
    pool = _Pool(lambda: actor_class.remote(stage, target, threads, batch), tell or _nothing)
    try:
        return _run(pool, shards, min_actors, max_actors, wait_for_min_actors_s)
    finally:
        pool.end()


def _run(pool: _Pool, shards: list[str], least: int, most: int, patience: float | None) -> dict[str, Any]:
    start = time.monotonic()
    waiting = collections.deque(range(len(shards)))
    deaths: collections.Counter[int] = collections.Counter()
    report: collections.Counter[str] = collections.Counter(shards=len(shards))
    faults: collections.Counter[str] = collections.Counter()
    failed: dict[int, str] = {}
    were_enough = False
    while waiting or pool.busy:
        while len(pool) < least and len(pool) < len(waiting) + len(pool.busy):
            pool.grow()
        # One at a time: whether the cluster has room shows only when an actor has come.
        if not pool.coming and not pool.idle and len(pool) < min(most, len(waiting) + len(pool.busy)):
            pool.grow()
        were_enough |= len(pool.idle) + len(pool.busy) >= min(least, len(shards))
        if not were_enough and patience is not None and time.monotonic() - start > patience:
            raise TimeoutError(f"fewer than {least} actors were ready after {patience} s")
        while waiting and pool.idle:
            number = waiting.popleft()
            actor, facts = pool.idle.pop()
            pool.busy[actor.shard.remote(shards[number], number)] = (actor, facts, number)
            pool.tell({"event": "begun", "shard": shards[number], **facts})
        if not waiting:
            # The last ones of the pool have work; one stays for the manifest.
            pool.shrink(max(1, len(pool.busy)))
        done, _ = ray.wait([*pool.busy, *pool.coming], timeout=_TICK)
        for result in done:
            if result in pool.coming:
                pool.came(result)
                continue
            actor, facts, number = pool.busy.pop(result)
            shard = shards[number]
            try:
                made = ray.get(result)
            except RayActorError:
                deaths[number] += 1
                report["actors_lost"] += 1
                pool.tell({"event": "lost", "shard": shard, **facts})
                if deaths[number] < _DEATHS:
                    waiting.appendleft(number)
                else:
                    failed[number] = f"{shard}: {_DEATHS} actors ended while they made it"
            except RayTaskError as error:
                failed[number] = str(error.cause)
                pool.idle.append((actor, facts))
                pool.tell({"event": "failed", "shard": shard, "error": failed[number], **facts})
            else:
                pool.idle.append((actor, facts))
                faults.update(made["faults"])
                for count in ("shards_made", "shards_found", "samples", "made", "kept", "dropped"):
                    report[count] += made[count]
                pool.tell({"event": "made" if made["shards_made"] else "found", "shard": shard, **facts})
        if len(failed) > _FAILURES:
            break
    if failed:
        some = "; ".join(list(failed.values())[:3])
        raise RuntimeError(f"{len(failed)} of {len(shards)} shards could not be made: {some}; a rerun tries them again")
    _finish(pool, shards)
    seconds = time.monotonic() - start
    rate = report["samples"] / max(seconds, 1e-9)
    return {**report, "actors_lost": report["actors_lost"], "faults": dict(faults), "seconds": seconds, "samples_per_s": rate}


def _finish(pool: _Pool, shards: list[str]) -> None:
    """Has one actor write the manifest; another one if that dies."""
    for _ in range(_DEATHS):
        while not pool.idle:
            if not pool.coming:
                pool.grow()
            done, _ = ray.wait(list(pool.coming))
            pool.came(done[0])
        actor, _ = pool.idle.pop()
        try:
            ray.get(actor.finish.remote(shards))
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError:
            continue
        finally:
            ray.kill(actor)
        return
    raise RuntimeError(f"{_DEATHS} actors ended while they wrote the manifest; all shards are there, a rerun writes it")


def _check_names(shards: list[str], output: Output) -> None:
    if output.names != "input":
        return
    first: dict[str, str] = {}
    for shard in shards:
        name = os.path.basename(shard)
        for ending in (".tar.gz", ".tar.zst", ".tar"):
            if name.endswith(ending):
                name = name.removesuffix(ending)
                break
        if first.setdefault(name, shard) != shard:
            raise ValueError(f"{first[name]} and {shard} would get one name; number the shards instead (names=\"count\")")


def _nothing(event: dict[str, Any]) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """The published generator's flags."""
    args = _parser().parse_args(arguments)
    try:
        stage, output = _stage(args), _output(args)
        if args.local:
            ray.init(address="local")
        report = reinforce(
            _shards_of(args.input),
            output,
            stage,
            min_actors=args.min_actors,
            max_actors=args.max_actors,
            threads=args.threads,
            wait_for_min_actors_s=None if args.ray_data_wait_for_min_actor_s < 0 else args.ray_data_wait_for_min_actor_s,
            tell=_say if args.verbose else _say_losses,
        )
    except (OSError, RuntimeError, ValueError) as error:
        print(f"mobileclip.ray: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report))
    return 0


def _say(event: dict[str, Any]) -> None:
    print("mobileclip.ray:", " ".join(f"{key}={value}" for key, value in event.items()), file=sys.stderr, flush=True)


def _say_losses(event: dict[str, Any]) -> None:
    if event["event"] in ("lost", "failed"):
        _say(event)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mobileclip.ray",
        description="Reinforced shards on a Ray cluster, by the published generator's flags. A rerun goes on where the last one stopped.",
    )
    add = parser.add_argument
    add("--datagen-type", required=True, choices=["embedding", "caption"])
    add("--input", required=True, help="paths, folders, brace lists or wildcards of shards, or an info.json beside them")
    add("--output", required=True, help="a folder that every node has")
    add("--num-samples", type=int, default=5, help="augmentations of each picture")
    add("--model-name", required=True, help="teachers, with commas between them, in the order of the columns")
    add("--pretrained", default="N/A", help="a tag or checkpoint for each of them, or N/A")
    add("--aug-config", default="", help="the augmentations' configuration as JSON; the published one if empty")
    add("--bfloat16", action="store_true", help="embeddings as bfloat16 (pth.gz)")
    add("--min-actors", type=int, default=1)
    add("--max-actors", type=int, default=None, help="as --min-actors if not given")
    add("--ray-data-wait-for-min-actor-s", type=float, default=-1, help="fails if --min-actors are not ready by then")
    add("--output-format", default="wds", choices=["wds", "webdataset", "jsonl"])
    add("--output-shard-name-format", default="count", choices=["count", "orig"])
    add("--verbose", action="store_true", help="says what each actor does")
    add("--local", action="store_true", help="on a cluster of this machine alone")
    add("--syn-text-key-regex", default=None, help="must match all sets: all are embedded")
    add("--tag-suffix", default="", help="must be empty")
    add("--batch-size", type=int, default=None, help="has no effect: each picture is computed by itself")
    add("--checkpoint-upload-freq", type=int, default=None, help="has no effect: finished shards are found by looking")
    add("--threads", type=int, default=1, help="CPUs of each actor (ours)")
    add("--seed", type=int, default=0, help="of the augmentations (ours)")
    add("--captions", default="txt", help="where the true captions stand: txt, or json:FIELD (ours)")
    add("--pillow", default="13", choices=["13", "12.2", "older"], help="which Pillow's resize is followed (ours)")
    return parser


def _stage(args: argparse.Namespace) -> Embeddings:
    if args.datagen_type != "embedding":
        raise ValueError("--datagen-type caption: captions are not made on Ray; many processes of `mobileclip reinforce captions` share a list of shards, too")
    if args.tag_suffix:
        raise ValueError(f"--tag-suffix {args.tag_suffix}: embeddings are called as training reads them, without a suffix")
    if args.syn_text_key_regex not in (None, "", ".*"):
        raise ValueError(f"--syn-text-key-regex {args.syn_text_key_regex}: all sets of synthetic captions are embedded")
    names, tags = args.model_name.split(","), args.pretrained.split(",")
    if len(tags) == 1 and tags[0] in ("N/A", ""):
        tags *= len(names)
    if len(tags) != len(names):
        raise ValueError(f"--pretrained: {len(tags)} for {len(names)} models")
    try:
        augment = json.loads(args.aug_config) if args.aug_config else None
    except ValueError as error:
        raise ValueError(f"--aug-config: no JSON: {error}") from None
    return Embeddings(
        [_teacher(name.strip(), tag.strip()) for name, tag in zip(names, tags, strict=True)],
        augmentations=args.num_samples,
        augment=augment,
        seed=args.seed,
        dtype="bf16" if args.bfloat16 else "f32",
        captions=args.captions,
        pillow=args.pillow,
    )


def _teacher(name: str, tag: str) -> Any:
    if tag in ("N/A", "") or name.startswith("hf-hub:"):
        return name
    if os.path.exists(tag):
        # A variant's name, or its file.
        return os.path.abspath(tag), os.path.abspath(name) if os.path.exists(name) else name
    return f"{name}:{tag}"


def _shards_of(given: str) -> str | list[str]:
    """An info.json names its shards as the keys of `lengths`."""
    if not given.endswith("info.json"):
        return given
    with open(given) as file:
        info = json.load(file)
    if not isinstance(info, dict) or not isinstance(info.get("lengths"), dict):
        raise ValueError(f"{given}: has no object `lengths`, whose keys are the shards")
    return [os.path.join(os.path.dirname(given), name) for name in info["lengths"]]


def _output(args: argparse.Namespace) -> Output:
    if args.output_format == "jsonl":
        raise ValueError("--output-format jsonl: shards are made as tar files (wds)")
    return Output(args.output, names="count" if args.output_shard_name_format == "count" else "input")


if __name__ == "__main__":
    sys.exit(main())
