"""Tokens a second of trainyard-rank and of eager PyTorch: the same model, initial values, data and threads, in turns within one run,
so that what else the machine does meets both. Prints each round, the medians and their ratio; docs/performance.md reads it.

    .tools/torch/bin/python3 tests/bench/engine_bench.py [--rounds 5] [--steps 30] [--threads 1] [--bar 1.0]
"""

import argparse
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


def of_the_rank(spec, threads):
    """Tokens a second between the report of step WARM_UP and that of the last step."""
    with ranks.Gang(spec, threads) as gang:
        assert gang.exit_codes(600) == [ranks.FINISHED], gang.evidence()
        times = {report["progress"]["step"]: (when, report["progress"]["tokens"])
                 for report, when in zip(gang.ranks[0].reports, gang.ranks[0].arrivals) if report["kind"] == "Progress"}
    first, last = min(step for step in times if step >= WARM_UP), max(times)
    return (times[last][1] - times[first][1]) / (times[last][0] - times[first][0])


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
    start = 0.0
    for number, step in enumerate(steps):
        if number == WARM_UP:
            start = time.monotonic()
        optimizer.zero_grad()
        reported = 0.0
        for rows in step.split(micro_batch):
            logits = model.logits(rows[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()) * (micro_batch / batch)
            loss.backward()
            reported += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters.values(), training["gradientClipping"]["maxNorm"]).item()
        optimizer.step()
    return (len(steps) - WARM_UP) * batch * spec["data"]["sequenceLength"] / (time.monotonic() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--corpus", default=str(ROOT / "LICENSE"))
    parser.add_argument("--bar", type=float, default=1.0, help="exit with 1 when the ratio is below")
    options = parser.parse_args()
    spec = ranks.job(options.corpus, options.steps + WARM_UP, size=DICTIONARY_TINY, sequence_length=64, batch=16, micro_batch=8,
                     reduction="Fast")
    rates = {"trainyard-rank": [], "eager PyTorch": []}
    for number in range(options.rounds):
        rates["trainyard-rank"].append(of_the_rank(spec, options.threads))
        rates["eager PyTorch"].append(of_pytorch(spec, options.threads))
        print(f"round {number + 1}: " + ", ".join(f"{name} {found[-1]:.0f} tokens/s" for name, found in rates.items()), flush=True)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratio = medians["trainyard-rank"] / medians["eager PyTorch"]
    print("medians: " + ", ".join(f"{name} {rate:.0f} tokens/s" for name, rate in medians.items()))
    print(f"ratio: {ratio:.2f} x (bar: at least {options.bar:.1f} x), {options.threads} thread(s), dictionary-tiny, FP32")
    return 0 if ratio >= options.bar else 1


if __name__ == "__main__":
    sys.exit(main())
