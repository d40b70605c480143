"""Tokens a second on one GPU: trainyard-rank, eager PyTorch and torch.compile, each in a process of its own, in turns within one run.
Four layers of Llama3-8B with its embedding and head, BF16 with FP32 masters, moments and clipping on all sides, the same shapes and
attention; on PyTorch's side with what its users have: fused AdamW, foreach clipping. docs/performance.md reads it.

    TRAINYARD_BIN_DIR=build/cuda/bin python3 tests/bench/gpu_engine_bench.py [--rounds 2] [--steps 20] [--micro-batch 2]
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/worker/trainer/oracle"))

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

import eager_llama  # noqa: E402

SLICE = {"layers": 4, "hiddenSize": 4096, "heads": 32, "keyValueHeads": 8, "feedForwardSize": 14336, "vocabularySize": 128256,
         "ropeTheta": 500000.0}
TINY = {"layers": 2, "hiddenSize": 64, "heads": 4, "keyValueHeads": 2, "feedForwardSize": 160, "vocabularySize": 256}
BARS = {"eager": 1.0, "compile": 0.85}
WARM_UP = 5  # steps that are not measured: allocations, the first use of each kernel, compiling
PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense BF16, of the data sheets


def flops_per_token(size, length):
    """As worker/plan/cost.h: 6 a matmul parameter, causal attention."""
    width, head = size["hiddenSize"], size["hiddenSize"] // size["heads"]
    layer = 2 * width * width + 2 * width * size["keyValueHeads"] * head + 3 * width * size["feedForwardSize"]
    return 6 * (size["layers"] * layer + size["vocabularySize"] * width) + 6 * length * size["layers"] * width


class MemoryPeak:
    """The most memory of the GPU that was taken while the context was open, of all processes, in GiB."""

    def __enter__(self):
        self.most, self.done = 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while torch.cuda.is_available() and not self.done.wait(0.05):
            free, total = torch.cuda.mem_get_info()
            self.most = max(self.most, (total - free) / (1 << 30))

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def of_the_rank(options, corpus):
    """Seconds of each step, by when its report came. `options.change`, if there is one, changes the job's spec."""
    import ranks
    spec = ranks.job(corpus, options.steps + WARM_UP, size=options.size, sequence_length=options.length, batch=options.batch,
                     micro_batch=options.micro_batch, reduction="Fast", learning_rate=1e-4)
    spec["training"]["precision"] = {"compute": "BF16"}
    spec["workers"]["gpusPerWorker"] = 1 if torch.cuda.is_available() else 0
    if "change" in options:
        options.change(spec)
    with ranks.Gang(spec, os.cpu_count(), meter=lambda _: time.monotonic()) as gang:
        rank = gang.ranks[0]
        rank.reader.join()
        codes = gang.exit_codes(600)
        assert codes == [ranks.FINISHED], gang.evidence()
        times = [reading for report, reading in zip(rank.reports, rank.readings) if report["kind"] == "Progress"]
        steps = rank.of_kind("Progress")
    return {"seconds": [after - before for before, after in zip(times, times[1:])][WARM_UP - 1:], "loss": steps[-1]["loss"]}


class BF16Llama(eager_llama.Llama):
    """The oracle's model in BF16, whose rotary tables are made once, on the device."""

    def __init__(self, size, parameters, length):
        super().__init__(size, parameters)
        device = parameters["model.norm.weight"].device
        self.cos_sin = tuple(table.to(device, torch.bfloat16) for table in eager_llama.rope_tables(size, length))

    def tables(self, length):
        return self.cos_sin

    def loss(self, tokens, targets):
        return functional.cross_entropy(self.logits(tokens).flatten(0, 1).float(), targets.flatten())


def of_pytorch(options, compiled):
    """The loop that a person would write for BF16 with FP32 masters."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    masters = {name: torch.empty(shape, device=device).normal_(std=0.02) if len(shape) > 1 else torch.ones(shape, device=device)
               for name, shape in eager_llama.shapes(options.size).items()}
    weights = {name: master.bfloat16().requires_grad_() for name, master in masters.items()}
    model = BF16Llama(options.size, weights, options.length)
    loss_of = torch.compile(model.loss) if compiled else model.loss
    trained, leaves = list(masters.values()), list(weights.values())
    for master in trained:
        master.grad = torch.zeros_like(master)
    gradients = [master.grad for master in trained]
    optimizer = torch.optim.AdamW([{"params": [master for master in trained if master.dim() > 1]},
                                   {"params": [master for master in trained if master.dim() == 1], "weight_decay": 0.0}],
                                  lr=1e-4, fused=True)
    rows = torch.randint(0, 256, (options.steps + WARM_UP, options.batch, options.length + 1), device=device)
    micro_batches = options.batch // options.micro_batch
    times = []
    for step in rows:
        total = torch.zeros((), device=device)
        for number, part in enumerate(step.split(options.micro_batch)):
            loss = loss_of(part[:, :-1], part[:, 1:]) / micro_batches
            loss.backward()
            total += loss.detach()
            if number == 0:
                torch._foreach_copy_(gradients, [leaf.grad for leaf in leaves])
            else:
                torch._foreach_add_(gradients, [leaf.grad for leaf in leaves])
            for leaf in leaves:
                leaf.grad = None
        torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(leaves, trained)
        found = total.item()  # waits for the GPU, as whoever reports a loss does
        times.append(time.monotonic())
    return {"seconds": [after - before for before, after in zip(times, times[1:])][WARM_UP - 1:], "loss": found,
            "allocated": torch.cuda.max_memory_allocated() / (1 << 30) if torch.cuda.is_available() else 0.0}


def measured(side, options, corpus):
    """What that side gives; None where the GPU's memory is too small for it."""
    with MemoryPeak() as memory:
        if side == "trainyard":
            try:
                found = of_the_rank(options, corpus)
            except AssertionError as error:
                if "out of memory" not in str(error):
                    raise
                return None
        else:
            done = subprocess.run([sys.executable, "-W", "ignore", __file__, "--side", side, *options.given], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
            if done.returncode != 0 and "OutOfMemoryError" in done.stderr:
                return None
            assert done.returncode == 0, done.stderr[-4000:]
            found = json.loads(done.stdout.splitlines()[-1])
    tokens = options.batch * options.length
    return {**found, "rate": tokens / statistics.median(found["seconds"]), "memory": memory.most}


def compare(options, sides, corpus):
    """Median tokens a second by side. Prints a line a run and a table."""
    flops = flops_per_token(options.size, options.length)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    peak = next((value for key, value in PEAKS.items() if key in name), None)
    rates, memory = {side: [] for side in sides}, {}
    print(f"{name}, torch {torch.__version__}: {options.size['layers']} layers of width {options.size['hiddenSize']}, vocabulary "
          f"{options.size['vocabularySize']}, batch {options.batch} x {options.length} in micro-batches of {options.micro_batch}", flush=True)
    for number in range(options.rounds):
        for side in sides:
            began = time.monotonic()
            found = measured(side, options, corpus)
            if found is None:
                print(f"  round {number + 1}: {side}: out of memory", flush=True)
                continue
            rates[side].append(found["rate"])
            memory[side] = found["memory"]
            steps = found["seconds"]
            print(f"  round {number + 1}: {side}: {found['rate']:.0f} tokens/s, step {1000 * statistics.median(steps):.1f} ms "
                  f"({1000 * min(steps):.1f} to {1000 * max(steps):.1f}), last loss {found['loss']:.4f}, "
                  f"{time.monotonic() - began:.0f} s in all", flush=True)
    print(f"  {'':10} {'tokens/s':>9} {'model TFLOP/s':>14} {'MFU':>6} {'GiB':>6}   trainyard against it")
    ratios = {}
    for side in sides:
        if not rates[side]:
            continue
        rate = statistics.median(rates[side])
        if rates.get("trainyard"):
            ratios[side] = statistics.median(rates["trainyard"]) / rate
        print(f"  {side:10} {rate:9.0f} {rate * flops / 1e12:14.1f} {f'{100 * rate * flops / peak:.1f} %' if peak else '-':>6} "
              f"{memory[side]:6.1f}   {f'{ratios[side]:.2f} x' if side in ratios else '-'}", flush=True)
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4, help="sequences a step")
    parser.add_argument("--micro-batch", type=int, default=2, help="sequences a micro-batch; four do not fit eager PyTorch in 80 GB")
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--sides", default="trainyard,eager,compile")
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand parameters, to try this script without a GPU")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.given = [word for word in sys.argv[1:] if word]
    options.size = TINY if options.tiny else SLICE
    if options.side:
        print(json.dumps(of_pytorch(options, options.side == "compile")))
        return 0
    if not torch.cuda.is_available() and not options.tiny:
        print("skipped: there is no GPU here")
        return 0
    sides = options.sides.split(",")
    with tempfile.TemporaryDirectory() as folder:
        corpus = pathlib.Path(folder) / "corpus"
        corpus.write_bytes(random.Random(1).randbytes((options.steps + WARM_UP) * options.batch * options.length + 1))
        ratios = compare(options, sides, corpus)
    met = {side: ratios.get(side, 0.0) >= bar for side, bar in BARS.items() if side in sides}  # no ratio, no memory: not met
    print("  bars: " + ", ".join(f"{side} {BARS[side]:.2f} x {'met' if good else 'NOT met'}" for side, good in met.items()))
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
