"""Tokens a second of the pipeline schedules: two stages on two ranks of one thread each, in turns within one run, and the ratio of each to
OneForwardOneBackward; the median over the rounds counts. Beside it what the bubbles alone would give, if the forward, the gradient of the
inputs and that of the weights took equally long and sending nothing. Wants two free cores. docs/performance.md reads it.

    .tools/torch/bin/python3 tests/bench/schedules_bench.py [--rounds 5] [--steps 10]
"""

import argparse
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/worker/trainer/oracle"))

import ranks  # noqa: E402

PIPELINE, MICRO_BATCHES = 2, 4
SIZE = {"layers": 8, "hiddenSize": 192, "heads": 6, "feedForwardSize": 512, "vocabularySize": 256}
WARM_UP = 3  # steps that are not measured
# name, virtual stages, idle time in thirds of a micro-batch's on a stage
SCHEDULES = (("OneForwardOneBackward", 1, 3), ("GPipe", 1, 3), ("Interleaved", 2, 1.5), ("Interleaved", 4, 0.75), ("ZeroBubble", 1, 1))


def tokens_per_second(name, virtual_stages, steps):
    spec = ranks.job(ROOT / "LICENSE", steps, pipeline=PIPELINE, pipeline_schedule={"name": name, "virtualStages": virtual_stages},
                     size=SIZE, sequence_length=128, micro_batch=2, batch=2 * MICRO_BATCHES, reduction="Fast")
    with ranks.Gang(spec, 1, meter=lambda pid: time.monotonic()) as gang:
        assert gang.exit_codes(600) == [ranks.FINISHED] * PIPELINE, gang.evidence()
        rank = next(rank for rank in gang.ranks if rank.of_kind("Progress"))
        seconds = [reading for report, reading in zip(rank.reports, rank.readings) if report["kind"] == "Progress"]
    return spec["training"]["globalBatchSize"] * 128 * (steps - WARM_UP) / (seconds[-1] - seconds[WARM_UP - 1])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=10)
    options = arguments.parse_args()
    rounds = [[tokens_per_second(name, stages, options.steps) for name, stages, _ in SCHEDULES] for _ in range(options.rounds)]
    for index, (name, stages, idle) in enumerate(SCHEDULES):
        ratios = [rates[index] / rates[0] for rates in rounds]
        expected = (3 * MICRO_BATCHES + SCHEDULES[0][2]) / (3 * MICRO_BATCHES + idle)
        print(f"{name} {stages}: {statistics.median(rates[index] for rates in rounds):,.0f} tokens/s, "
              f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f}); by the bubbles {expected:.2f} x", flush=True)


if __name__ == "__main__":
    main()
