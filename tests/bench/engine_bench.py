"""Tokens a second of trainyard-rank and of eager PyTorch: the same model, initial values, data and threads, in turns within one run,
so that what else the machine does meets both. Each round gives a ratio by the clock and one by CPU seconds, which other load on the
machine hardly changes; what counts is the median over the rounds. docs/performance.md reads it.

    .tools/torch/bin/python3 tests/bench/engine_bench.py [--rounds 5] [--steps 40] [--threads 1] [--bar 1.0]
"""

import argparse
import operator
import os
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/worker/trainer/oracle"))

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

import initial_values  # noqa: E402
import ranks  # noqa: E402
from eager_llama import Llama  # noqa: E402
from sample_order import SampleOrder  # noqa: E402

DICTIONARY_TINY = {"layers": 4, "hiddenSize": 128, "heads": 4, "keyValueHeads": 2, "feedForwardSize": 384, "vocabularySize": 256}
WARM_UP = 5  # steps that are not measured: allocations, the first use of each kernel


def now(pid):
    """(seconds of the clock, CPU seconds that the process has used). A process that has ended has both until it is waited for."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return time.monotonic(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rates(tokens, start, end):
    return {"by the clock": tokens / (end[0] - start[0]), "by CPU seconds": tokens / (end[1] - start[1])}


def of_the_rank(spec, threads):
    """Tokens a second between the report of step WARM_UP and that of the last step."""
    with ranks.Gang(spec, threads, meter=now) as gang:
        rank = gang.ranks[0]
        rank.reader.join()
        assert gang.exit_codes(600) == [ranks.FINISHED], gang.evidence()
        steps = [(report["progress"], reading) for report, reading in zip(rank.reports, rank.readings) if report["kind"] == "Progress"]
    first = next(entry for entry in steps if entry[0]["step"] >= WARM_UP)
    return rates(steps[-1][0]["tokens"] - first[0]["tokens"], first[1], steps[-1][1])


def of_pytorch(spec, threads):
    """The loop that a person would write. Batches are read before the clock runs."""
    torch.set_num_threads(threads)
    size, training = spec["model"]["size"], spec["training"]
    order = SampleOrder(spec["data"], training["seed"])
    batch, micro_batch = training["globalBatchSize"], spec["parallelism"]["microBatchSize"]
    steps = [torch.tensor([order.tokens(order.next()) for _ in range(batch)]) for _ in range(training["steps"])]
    parameters = {name: tensor.requires_grad_() for name, tensor in initial_values.of_model(size, training["seed"]).items()}
    model = Llama(size, parameters)
    optimizer = torch.optim.AdamW(parameters.values(), lr=training["optimizer"]["learningRate"])
    for number, step in enumerate(steps):
        if number == WARM_UP:
            start = now(os.getpid())
        optimizer.zero_grad()
        reported = 0.0
        for rows in step.split(micro_batch):
            logits = model.logits(rows[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()) * (micro_batch / batch)
            loss.backward()
            reported += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters.values(), training["gradientClipping"]["maxNorm"]).item()
        optimizer.step()
    return rates((len(steps) - WARM_UP) * batch * spec["data"]["sequenceLength"], start, now(os.getpid()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--corpus", default=str(ROOT / "LICENSE"))
    parser.add_argument("--bar", type=float, default=1.0, help="exit with 1 when the ratio is below")
    options = parser.parse_args()
    spec = ranks.job(options.corpus, options.steps + WARM_UP, size=DICTIONARY_TINY, sequence_length=64, batch=16, micro_batch=8,
                     reduction="Fast")
    rounds = []
    for number in range(options.rounds):
        runs = [("trainyard-rank", of_the_rank), ("eager PyTorch", of_pytorch)]
        found = dict((name, run(spec, options.threads)) for name, run in (runs if number % 2 == 0 else reversed(runs)))
        rounds.append(found)
        print(f"round {number + 1}: " + ", ".join(f"{name} {rate['by the clock']:.0f} tokens/s" for name, rate in sorted(found.items())),
              flush=True)
    ratios = {}
    for measure in ("by the clock", "by CPU seconds"):
        engine, pytorch = ([found[name][measure] for found in rounds] for name in ("trainyard-rank", "eager PyTorch"))
        ratios[measure] = statistics.median(one / other for one, other in zip(engine, pytorch))
        print(f"{measure}: medians {statistics.median(engine):.0f} and {statistics.median(pytorch):.0f} tokens/s; "
              f"ratio {ratios[measure]:.2f} x ({min(map(operator.truediv, engine, pytorch)):.2f} to "
              f"{max(map(operator.truediv, engine, pytorch)):.2f})")
    print(f"bar: at least {options.bar:.1f} x by CPU seconds; {options.threads} thread(s), dictionary-tiny, FP32")
    return 0 if ratios["by CPU seconds"] >= options.bar else 1


if __name__ == "__main__":
    sys.exit(main())
