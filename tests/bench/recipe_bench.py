"""What the parts of the recipe do to the loss of a small model on the text of the demo (.ci/corpus): warmup + cosine against a constant
rate, clipping, weight decay, and number formats. Runs differ in that one thing; each at several learning rates or seeds, since a claim
that holds at one alone is none. A loss is the same on any machine up to rounding. docs/performance.md reads it.

    .tools/torch/bin/python3 tests/bench/recipe_bench.py [--corpus corpus] [--steps 300] [--seeds 2] [schedule|clipping|decay|precision]...
"""

import argparse
import concurrent.futures
import math
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/worker/trainer/oracle"))

import ranks  # noqa: E402

SIZE = {"layers": 2, "hiddenSize": 64, "heads": 4, "keyValueHeads": 2, "feedForwardSize": 160, "vocabularySize": 256}
SEQUENCE, BATCH, MICRO_BATCH = 128, 8, 4
RATES = (1.0e-3, 2.0e-3, 4.0e-3, 8.0e-3, 1.6e-2)
HIGH_RATES = (1.6e-2, 3.2e-2, 6.4e-2)
CONSTANT = {"name": "Constant", "warmupSteps": 0}


def cosine(options):
    return {"name": "Cosine", "warmupSteps": options.steps // 20, "minimum": 1.0e-5}


class Run:
    """One training: `losses` on the validation text at each tenth of the steps, `training` after each step; cut short where it fails."""

    def __init__(self, options, **choices):
        precision = choices.pop("precision", "FP32")
        beta2 = choices.pop("beta2", None)
        states = choices.pop("states", None)
        spec = ranks.job(pathlib.Path(options.corpus) / "train", options.steps, size=SIZE, sequence_length=SEQUENCE, batch=BATCH,
                         micro_batch=MICRO_BATCH, reduction="Fast", precision=precision, **choices)
        spec["data"]["validation"] = [{"path": str(pathlib.Path(options.corpus) / "validation")}]
        every = max(1, options.steps // 10)
        spec["evaluation"] = {"everySteps": every, "batches": 16}
        if beta2:
            spec["training"]["optimizer"]["beta2"] = beta2
        if states:
            spec["training"]["precision"]["optimizerStates"] = states
        with ranks.Gang(spec) as gang:
            self.code = gang.exit_codes(3600)[0]
            steps = gang.progress()
        self.training = [entry["loss"] for entry in steps]
        self.losses = [entry["validationLoss"] for entry in steps if entry["step"] % every == 0 and "validationLoss" in entry]
        self.every = every

    def last(self):
        return self.losses[-1] if self.code == ranks.FINISHED and self.losses else math.nan

    def steps_to(self, loss):
        """The first evaluation that is not above it."""
        return next(((number + 1) * self.every for number, each in enumerate(self.losses) if each <= loss), None)

    def has_diverged(self):
        """It ended early, or is worse than knowing nothing but that letters differ: above the loss of its first tenth."""
        return self.code != ranks.FINISHED or not math.isfinite(self.last()) or self.last() > self.losses[0]


def all_runs(options, choices):
    """Two at a time, in the order of `choices`."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda each: Run(options, **each), choices))


def mean(runs):
    return statistics.mean(run.last() for run in runs)


def schedule(options):
    print(f"warmup of a twentieth and cosine, against a constant rate: validation loss after {options.steps} steps, mean of {options.seeds} seeds")
    best = {}
    for name, what in (("constant", CONSTANT), ("cosine", cosine(options))):
        for rate in RATES:
            runs = all_runs(options, [{"schedule": what, "learning_rate": rate, "seed": seed} for seed in range(1, options.seeds + 1)])
            print(f"  {name:9} rate {rate:7.4f}  {mean(runs):.4f}", flush=True)
            if name not in best or mean(runs) < mean(best[name]):
                best[name] = runs
    print(f"  the best rate of each: constant {mean(best['constant']):.4f}, cosine {mean(best['cosine']):.4f}")
    goal = mean(best["constant"])
    print(f"  steps until {goal:.4f}: constant {[run.steps_to(goal) for run in best['constant']]}, cosine {[run.steps_to(goal) for run in best['cosine']]}")


def clipping(options):
    print("clipping at a norm of 1.0, warmup and cosine: runs that diverged, and the mean validation loss of the others")
    for rate in HIGH_RATES:
        for warmup, what in (("warmup", cosine(options)), ("none  ", CONSTANT)):
            for norm in (None, 1.0):
                runs = all_runs(options, [{"schedule": what, "learning_rate": rate, "max_norm": norm, "seed": seed}
                                          for seed in range(1, options.seeds + 1)])
                well = [run.last() for run in runs if not run.has_diverged()]
                print(f"  rate {rate:6.3f} {warmup} {'clipped' if norm else 'not    '}  {len(runs) - len(well)} of {len(runs)} diverged"
                      + (f", {statistics.mean(well):.4f}" if well else ""), flush=True)


def decay(options):
    print(f"weight decay, warmup and cosine at {RATES[2]}: validation and training loss (mean of the last tenth of the steps), mean of {options.seeds} seeds")
    for value in (0.0, 0.01, 0.1, 0.3):
        runs = all_runs(options, [{"schedule": cosine(options), "learning_rate": RATES[2], "weight_decay": value, "seed": seed}
                                  for seed in range(1, options.seeds + 1)])
        trained = statistics.mean(statistics.mean(run.training[-run.every:]) for run in runs)
        print(f"  {value:4}  {mean(runs):.4f}  {trained:.4f}", flush=True)


def precision(options):
    print(f"number formats, warmup and cosine at {RATES[1]}, beta2 0.95: validation loss, mean of {options.seeds} seeds, and the largest distance from FP32's of a seed")
    formats = (("FP32", None), ("FP32", "BF16"), ("FP32", "Blockwise8Bit"), ("BF16", None), ("BF16", "BF16"), ("BF16", "Blockwise8Bit"),
               ("FP16", None), ("FP8", None))
    plain = None
    for compute, states in formats:
        runs = all_runs(options, [{"schedule": cosine(options), "learning_rate": RATES[1], "precision": compute, "states": states, "beta2": 0.95, "seed": seed}
                                  for seed in range(1, options.seeds + 1)])
        plain = plain or runs
        distance = max(abs(run.last() - reference.last()) for run, reference in zip(runs, plain))
        print(f"  {compute:4}{f' moments {states}' if states else '':22} {mean(runs):.4f}  {distance:.4f}", flush=True)


def main():
    parts = {"schedule": schedule, "clipping": clipping, "decay": decay, "precision": precision}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=str(ROOT / "corpus"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("parts", nargs="*", metavar="part", help="schedule, clipping, decay, precision; all of them by default")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(parts)}")
    for part in options.parts or parts:
        parts[part](options)


if __name__ == "__main__":
    main()
