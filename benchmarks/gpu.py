"""Training on a GPU: checks against the CPU, and the time of one fold and of five folds.

    python benchmarks/gpu.py [--models iaan acrnn_r ssa_crnn_r] [--steps 20] [--small]

The data are random numbers with the lengths of IEMOCAP: 4.5 s a turn on average, at most 25 s. The
networks have their published sizes. All times are of a training step: the time of `--steps` steps
divided by their number, the median of three rounds and their range. Five folds count as one step of
each fold. The ways of training:

    the program      the training loop of a fold, whose batches are made on the GPU
    host batches     the same, but the batches are made on the host and copied
    ready batches    the bare network and its optimiser, on batches that are on the GPU
    in turn          five folds in one process, one after the other
    processes        five folds in five processes that share the GPU: what the program does
    threads          five folds in five threads, each with a CUDA stream, on ready batches

Without a GPU, it times the first ways on the CPU and says that nothing ran on a GPU. Use `--small`
there, for about a sixteenth of the sizes. It imports neither Ray nor openSMILE.
"""

import argparse
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from spread import spread
from torch import Tensor, nn

from features.context import Turns
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.batches import Batch, make_batch
from orchestrator.training.gradient import GradientRun
from orchestrator.training.runs import fold_run

FOLDS, ROUNDS = 5, 3
CLASSES = ("anger", "happiness", "neutral", "sadness")
LOG_SECONDS, DEVIATION, SHORTEST, LONGEST = 1.27, 0.68, 0.6, 25.0
"""Of the logarithm of a turn's length, so that the mean is near 4.5 s, as in IEMOCAP."""
SMALL_ENCODER = {
    "first_maps": 8, "maps": 16, "conv_layers": 2, "linear_size": 48, "hidden_size": 16,
}  # fmt: skip
SMALL: dict[str, dict[str, int]] = {
    "iaan": {"hidden_size": 32, "attention_size": 32},
    "acrnn_r": SMALL_ENCODER,
    "ssa_crnn_r": SMALL_ENCODER,
}


def made_dataset(model: str, turns: int) -> tuple[Dataset, list[Fold]]:
    """Return random features with realistic lengths, and five folds of sessions."""
    generator = np.random.default_rng(0)
    seconds = np.clip(generator.lognormal(LOG_SECONDS, DEVIATION, turns), SHORTEST, LONGEST)
    images = model != "iaan"
    lengths = (seconds * 100).astype(int) if images else np.ceil(seconds * 20).astype(int)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = np.arange(turns)
    session = rows * FOLDS // turns

    def before(lag: int) -> Turns:
        present = rows >= lag
        return Turns((rows - lag)[present], np.concatenate([[0], np.cumsum(present)]))

    dataset = Dataset(
        frames=generator.standard_normal((offsets[-1], 120 if images else 45), np.float32),
        offsets=offsets,
        segment=300 if images else None,
        labels=generator.integers(0, len(CLASSES), turns),
        own=before(2),
        other=before(1),
        previous=np.full((2, turns), -1),
        ids=[f"turn-{row}" for row in rows],
        speakers=[f"{number}-{row % 2}" for row, number in enumerate(session)],
        classes=CLASSES,
    )
    folds = []
    for number in range(FOLDS):
        validation = (number + 1) % FOLDS
        train = rows[(session != number) & (session != validation)]
        test = rows[session == number]
        folds.append(Fold(str(number), train, rows[session == validation], test))
    return dataset, folds


def configuration(model: str, sizes: dict[str, Any], **training: Any) -> Configuration:
    """Return the configuration of a model, whose other values are the published ones."""
    return parse(
        {
            "name": "gpu",
            "corpus": {"root": "random numbers", "classes": list(CLASSES)},
            "model": {"name": model, **sizes},
            "folds": {"scheme": "leave_one_session_out"},
            "training": training,
        }
    )


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Return the wall seconds of `work`, to the end of what it started on the device."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def milliseconds(work: Callable[[], Any], steps: int, device: torch.device) -> list[float]:
    """Return milliseconds of a step in each round. A first round sets things up."""
    work()
    return [1000 * seconds_of(work, device) / steps for _ in range(ROUNDS)]


def gradient_run(fold: Fold, dataset: Dataset, config: Configuration, device: str) -> GradientRun:
    """Return a fold that trains."""
    run = fold_run(fold, dataset.on(torch.device(device)), config, torch.device(device))
    assert isinstance(run, GradientRun)
    return run


def program(run: GradientRun) -> None:
    """Train an epoch with the program's loop."""
    run.epoch += 1
    run.model.train()
    run._train()


def loss_of(run: GradientRun, batch: Batch) -> Tensor:
    """Return the loss of a batch, without what only some models add."""
    with run.precision():
        output = run.model(batch.current, batch.own, batch.other)
    loss = nn.functional.cross_entropy(output.logits.float(), batch.labels)
    return loss if output.penalty is None else loss + output.penalty


def ready_batches(run: GradientRun) -> list[Batch]:
    """Return the batches of the first epoch on the device of the run."""
    run.epoch = 1
    batches = [make_batch(run.dataset, run.pieces.take(rows)) for rows in run._batches()]
    return [batch.to(run.device) for batch in batches]


def bare(run: GradientRun, batches: list[Batch]) -> None:
    """Train on ready batches. Nothing waits for the device."""
    run.model.train()
    for batch in batches:
        run.model.zero_grad(set_to_none=False)
        loss_of(run, batch).backward()
        run.optimizer.step()


def in_threads(runs: list[GradientRun], batches: list[Batch]) -> None:
    """Train each run on the batches, in a thread and a stream of its own."""

    def train(run: GradientRun) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            bare(run, batches)

    threads = [threading.Thread(target=train, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


Job = tuple[str, dict[str, Any], int, int, int, str]
"""Model, sizes, turns, steps, fold and precision."""


def in_process(job: Job, barrier: Any, sent: Any) -> None:
    """Train a fold in this process with the program's loop, in step with the other processes."""
    model, sizes, turns, steps, number, precision = job
    torch.set_num_threads(1)
    dataset, folds = made_dataset(model, turns)
    config = configuration(model, sizes, epoch_steps=steps, precision=precision)
    run = gradient_run(folds[number], dataset, config, "cuda")
    program(run)
    times = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        barrier.wait()
        began = time.perf_counter()
        program(run)
        torch.cuda.synchronize()
        barrier.wait()
        times.append(1000 * (time.perf_counter() - began) / steps)
    sent.put((times, torch.cuda.max_memory_reserved()))


def in_processes(model: str, sizes: dict[str, Any], turns: int, steps: int, precision: str) -> Any:
    """Return milliseconds of a step of five folds in as many processes, and their memory."""
    context = multiprocessing.get_context("spawn")
    barrier, sent = context.Barrier(FOLDS), context.Queue()
    processes = [
        context.Process(
            target=in_process, args=((model, sizes, turns, steps, i, precision), barrier, sent)
        )
        for i in range(FOLDS)
    ]
    for process in processes:
        process.start()
    parts = [sent.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    times = [max(each) for each in zip(*(part[0] for part in parts), strict=True)]
    return times, sum(part[1] for part in parts)


def agreement(model: str, sizes: dict[str, Any], steps: int) -> str:
    """Return a row: the largest difference of the loss between CPU and GPU over the first steps."""
    dataset, folds = made_dataset(model, 400)
    cells = []
    for full in (False, True):
        torch.backends.cudnn.allow_tf32 = not full
        losses: dict[str, list[float]] = {}
        for device in ("cpu", "cuda"):
            config = configuration(
                model, {**sizes, "dropout": 0.0}, epoch_steps=steps, batch_size=16
            )
            run = gradient_run(folds[0], dataset, config, device)
            run.model.train()
            losses[device] = []
            for batch in ready_batches(run):
                run.model.zero_grad(set_to_none=False)
                loss = loss_of(run, batch)
                loss.backward()
                run.optimizer.step()
                losses[device].append(loss.item())
        cpu, gpu = (np.array(losses[device]) for device in ("cpu", "cuda"))
        relative = np.abs(gpu - cpu) / np.abs(cpu)
        cells += [f"{relative[0]:.1e}", f"{relative.max():.1e}"]
    torch.backends.cudnn.allow_tf32 = True
    return f"| `{model}` | {' | '.join(cells)} |"


def timed_row(label: str, times: list[float], one: list[float], memory: int | None) -> str:
    """Return a row: milliseconds of a step, their ratio to one fold in the program, memory."""
    ratio = statistics.median(times) / statistics.median(one)
    used = "" if memory is None else f"{memory / 2**30:.1f} GiB"
    return f"| {label} | {spread(times, 1)} ms | {ratio:.2f} | {used} |"


def measure(model: str, sizes: dict[str, Any], turns: int, steps: int, precision: str) -> None:
    """Print the rows of a model in a precision."""
    name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    dataset, folds = made_dataset(model, turns)
    config = configuration(model, sizes, epoch_steps=steps, precision=precision)
    runs = [gradient_run(fold, dataset, config, name) for fold in folds]
    head = f"`{model}`, {precision}"

    def peak(work: Callable[[], list[float]]) -> tuple[list[float], int | None]:
        if name == "cpu":
            return work(), None
        torch.cuda.reset_peak_memory_stats()
        return work(), torch.cuda.max_memory_reserved()

    def show(label: str, work: Callable[[], Any]) -> list[float]:
        times, memory = peak(lambda: milliseconds(work, steps, device))
        print(timed_row(f"{head}, {label}", times, one or times, memory), flush=True)
        return times

    one: list[float] = []
    one = show("one fold, the program", lambda: program(runs[0]))
    batches = ready_batches(runs[0])
    show("one fold, ready batches", lambda: bare(runs[0], batches))
    show("five folds, in turn", lambda: [program(run) for run in runs])
    if name == "cpu":
        return
    on_host = fold_run(folds[0], dataset, config, device)
    assert isinstance(on_host, GradientRun)
    show("one fold, host batches", lambda: program(on_host))
    times, memory = in_processes(model, sizes, turns, steps, precision)
    print(timed_row(f"{head}, five folds, processes", times, one, memory), flush=True)
    show("five folds, threads", lambda: in_threads(runs, batches))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SMALL, default=list(SMALL))
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--turns", type=int, default=1000, help="in the corpus")
    parser.add_argument("--steps", type=int, default=20, help="of each round")
    parser.add_argument("--small", action="store_true", help="small networks, for a CPU")
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    where = torch.cuda.get_device_name() if gpu else "the CPU. Nothing ran on a GPU"
    print(f"PyTorch {torch.__version__}, {where}.\n")
    if gpu:
        print("| model | first step, TF32 | 100 steps, TF32 | first step | 100 steps |")
        print("|---|---|---|---|---|")
        for model in options.models:
            print(agreement(model, SMALL[model], 100), flush=True)
        print()
    print("| training | a step | by one fold | memory |\n|---|---|---|---|")
    # Each model has a process of its own, so that it begins with an empty GPU.
    context = multiprocessing.get_context("spawn")
    for model in options.models:
        for precision in options.precisions:
            sizes = SMALL[model] if options.small else {}
            process = context.Process(
                target=measure, args=(model, sizes, options.turns, options.steps, precision)
            )
            process.start()
            process.join()
            if process.exitcode:  # a crash of the driver prints nothing
                raise SystemExit(f"{model}, {precision}: the process ended with {process.exitcode}")


if __name__ == "__main__":
    main()
