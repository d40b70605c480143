"""Tokens a second of trainyard-rank at ZeRO stage 3 and of PyTorch's FSDP2, each on two ranks over Gloo on this machine: the same sizes,
micro-batches and threads, in turns within one run. Each round gives a ratio by the clock and one by CPU seconds; what counts is the median
over the rounds. docs/performance.md reads it.

    .tools/torch/bin/python3 tests/bench/zero_bench.py [--rounds 3] [--steps 20] [--stage 3]
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/worker/trainer/oracle"), str(ROOT / "tests/bench")]

import torch  # noqa: E402
from torch import distributed, nn  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402
from torch.nn import functional  # noqa: E402

import ranks  # noqa: E402
from eager_llama import rope_tables, rotate  # noqa: E402
from engine_bench import WARM_UP, now, rates  # noqa: E402

SIZE = {"layers": 4, "hiddenSize": 256, "heads": 4, "keyValueHeads": 2, "feedForwardSize": 768, "vocabularySize": 256}
SEQUENCE, BATCH, MICRO_BATCH = 128, 16, 4


class Layer(nn.Module):
    def __init__(self, size):
        super().__init__()
        width, key_value = size["hiddenSize"], size["keyValueHeads"] * size["hiddenSize"] // size["heads"]
        self.size = size
        self.input_norm, self.post_norm = nn.RMSNorm(width, eps=1.0e-5), nn.RMSNorm(width, eps=1.0e-5)
        self.q, self.o = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k, self.v = nn.Linear(width, key_value, bias=False), nn.Linear(width, key_value, bias=False)
        self.gate, self.up = nn.Linear(width, size["feedForwardSize"], bias=False), nn.Linear(width, size["feedForwardSize"], bias=False)
        self.down = nn.Linear(size["feedForwardSize"], width, bias=False)

    def forward(self, x, cos, sin):
        def heads(projection, count):
            return projection.view(x.size(0), x.size(1), count, -1).transpose(1, 2)

        into = self.input_norm(x)
        q = rotate(heads(self.q(into), self.size["heads"]), cos, sin)
        k = rotate(heads(self.k(into), self.size["keyValueHeads"]), cos, sin)
        v = heads(self.v(into), self.size["keyValueHeads"])
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(out.transpose(1, 2).flatten(2))
        into = self.post_norm(x)
        return x + self.down(functional.silu(self.gate(into)) * self.up(into))


class Model(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(size["vocabularySize"], size["hiddenSize"])
        self.layers = nn.ModuleList(Layer(size) for _ in range(size["layers"]))
        self.norm = nn.RMSNorm(size["hiddenSize"], eps=1.0e-5)
        self.head = nn.Linear(size["hiddenSize"], size["vocabularySize"], bias=False)

    def forward(self, tokens):
        x, (cos, sin) = self.embedding(tokens), rope_tables(self.size, tokens.size(1))
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.head(self.norm(x))


def fsdp2_rank(rank, port, steps):
    """One of the two processes: prints its rates."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(1)
    model = Model(SIZE)
    for layer in model.layers:
        fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2.0e-3, foreach=True)
    data = torch.randint(0, 256, (steps + WARM_UP, BATCH // 2, SEQUENCE + 1))
    for number, step in enumerate(data):
        if number == WARM_UP:
            start = now(os.getpid())
        optimizer.zero_grad()
        reported = 0.0
        for rows in step.split(MICRO_BATCH):
            loss = functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()) * (2 * MICRO_BATCH / BATCH)
            loss.backward()
            reported += loss.item()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0).full_tensor().item()
        optimizer.step()
    print(json.dumps(rates(steps * BATCH * SEQUENCE, start, now(os.getpid()))), flush=True)
    distributed.destroy_process_group()


def of_fsdp2(options):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", __file__, "--steps", str(options.steps), "--port", str(port), "--rank"]
    processes = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs
    return json.loads(outputs[0].splitlines()[-1])


def of_the_ranks(options):
    spec = ranks.job(ROOT / "LICENSE", options.steps + WARM_UP, size=SIZE, sequence_length=SEQUENCE, batch=BATCH, micro_batch=MICRO_BATCH,
                     reduction="Fast", data=2, zero=options.stage)
    with ranks.Gang(spec, 1, meter=now) as gang:
        reporting = next(rank for rank in gang.ranks if rank.reader.join() or rank.of_kind("Progress"))
        assert gang.exit_codes(600) == [ranks.FINISHED] * 2, gang.evidence()
        steps = [(report["progress"], reading) for report, reading in zip(reporting.reports, reporting.readings) if report["kind"] == "Progress"]
    first = next(entry for entry in steps if entry[0]["step"] >= WARM_UP)
    return rates(steps[-1][0]["tokens"] - first[0]["tokens"], first[1], steps[-1][1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--stage", type=int, default=3, help="of ZeRO, for trainyard-rank")
    parser.add_argument("--bar", type=float, default=1.0, help="exit with 1 when the ratio is below")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        return fsdp2_rank(options.rank, options.port, options.steps)
    rounds = []
    for number in range(options.rounds):
        runs = [("trainyard-rank", of_the_ranks), ("FSDP2", of_fsdp2)]
        rounds.append({name: run(options) for name, run in (runs if number % 2 == 0 else reversed(runs))})
        print(f"round {number + 1}: " + ", ".join(f"{name} {rate['by the clock']:.0f} tokens/s" for name, rate in sorted(rounds[-1].items())),
              flush=True)
    medians = {}
    for measure in ("by the clock", "by CPU seconds"):
        ratios = [found["trainyard-rank"][measure] / found["FSDP2"][measure] for found in rounds]
        medians[measure] = statistics.median(ratios)
        print(f"{measure}: ratio {medians[measure]:.2f} x ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"bar: at least {options.bar:.1f} x by CPU seconds; 2 ranks of 1 thread, ZeRO {options.stage} and FSDP2, FP32, Gloo")
    return 0 if medians["by CPU seconds"] >= options.bar else 1


if __name__ == "__main__":
    sys.exit(main())
