"""A slot: the workers of one Train run, which train one trial after another.

Processes, imports, placement, process groups and data are set up once for many trials. A mailbox
is between the process of the trials and the workers: it hands out trials, and returns reports.
"""

import os
import threading
from typing import Any

import torch
import torch.distributed as dist

from features.storage import Storage
from orchestrator.sweep import tune_compat
from orchestrator.sweep.assignment import Assignment, train
from orchestrator.sweep.mailbox import Mailbox
from orchestrator.sweep.resources import Resources
from orchestrator.training.cross_validation import World

FINISHED, ENDED = "finished", "ended"
"""Events of a slot beside reports: its trial is finished; its run has ended."""


class Slot:
    """Workers that train one trial after another, until one of them fails or the slot closes.

    If the process that made a slot ends, Ray ends the slot's processes. The driver releases what
    they have reserved (`tune_compat.release_reservations`).
    """

    def __init__(self, workers: int, resources: Resources, storage: Storage) -> None:
        import ray

        self.workers = workers
        self.resources = resources
        self.ended = False
        self.error: Exception | None = None
        self.mailbox: Any = ray.remote(num_cpus=0)(Mailbox).remote()
        self.trainer = self._trainer(storage)
        self.run = threading.Thread(target=self._run, daemon=True)
        self.run.start()

    def _trainer(self, storage: Storage) -> Any:
        import ray
        import ray.train
        from ray.train.torch import TorchConfig, TorchTrainer

        gpus = self.resources.gpus_per_worker
        share = {"GPU": gpus} if gpus > 0 else {}
        mark = tune_compat.reservation_mark(str(ray.get_runtime_context().get_actor_id()))
        scratch = Storage(storage.filesystem, storage.path("tune/train"))
        return TorchTrainer(
            _worker,
            train_loop_config={"mailbox": self.mailbox},
            # gloo on GPUs too: folds share a GPU, and NCCL refuses two workers on one GPU.
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=self.workers,
                use_gpu=bool(share),
                resources_per_worker={"CPU": 1, "memory": mark, **share},
            ),
            run_config=ray.train.RunConfig(
                name=f"slot-{os.urandom(8).hex()}",
                storage_path=scratch.root,
                storage_filesystem=scratch.filesystem,
                failure_config=tune_compat.no_own_retries(),
            ),
        )

    def _run(self) -> None:
        try:
            self.trainer.fit()
        except Exception as error:
            self.error = error
        self.ended = True
        self.mailbox.post.remote(ENDED)

    def train(self, assignment: Assignment, report: Any) -> None:
        """Train a trial to its end. Raises the run's TrainingFailedError if the run ends before."""
        import ray

        ray.get(self.mailbox.put.remote([ray.put(assignment)]))
        while True:
            for event in ray.get(self.mailbox.read.remote()):
                if event == FINISHED:
                    return
                if event == ENDED:
                    raise self.error or RuntimeError("the workers ended before their trial")
                report(event)

    def close(self) -> None:
        """End the workers, and release what they have reserved."""
        import ray

        ray.get(self.mailbox.close.remote())
        self.run.join()


def _worker(config: dict[str, Any]) -> None:
    """A Train worker: trains its folds of each trial in lockstep with the other workers."""
    import ray
    import ray.train
    import ray.train.torch

    context, mailbox = ray.train.get_context(), config["mailbox"]
    rank, size = context.get_world_rank(), context.get_world_size()
    # Of several workers, the nodes that are left may hold only one.
    world = World(rank, _gather) if size > 1 else World()
    device = ray.train.torch.get_device()

    def post(event: Any) -> None:
        if rank == 0:
            mailbox.post.remote(event)

    number = 0
    while taken := ray.get(mailbox.take.remote(number)):
        number, (reference,) = taken
        train(ray.get(reference), device, post, world, size)
        if device.type == "cuda":
            torch.cuda.empty_cache()  # workers of other slots may share the GPU
        post(FINISHED)


def _gather(payload: Any) -> list[Any]:
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, payload)
    return parts
