"""What the parts of the recipe do to a small model on the text of the demo (.ci/corpus), and what they cost and save. The first four compare losses:
warmup + cosine against a constant rate, clipping, weight decay, number formats. Runs differ in that one thing; each at several learning rates
or seeds, since a claim that holds at one alone is none. A loss is the same on any machine up to rounding. The last three compare tokens for
each second of a CPU, and the most memory that a process had: number formats, recomputation, ZeRO. docs/performance.md reads it.

    .tools/torch/bin/python3 tests/bench/recipe_bench.py [--corpus corpus] [--steps 300] [--seeds 2]
        [schedule|clipping|decay|precision|formats|recomputation|zero]...
"""

import argparse
import concurrent.futures
import math
import os
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/worker/trainer/oracle"), str(ROOT / "tests/bench")]

import ranks  # noqa: E402
from engine_bench import now  # noqa: E402

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
            steps = gang.ranks[0].of_kind("Progress")  # none, if the first step was the last
        self.training = [entry.get("loss", math.nan) for entry in steps]
        self.losses = [entry["validationLoss"] for entry in steps if entry["step"] % every == 0 and "validationLoss" in entry]
        self.every = every

    def last(self):
        return self.losses[-1] if self.code == ranks.FINISHED and self.losses else math.nan

    def steps_to(self, loss):
        """The first evaluation that is not above it."""
        return next(((number + 1) * self.every for number, each in enumerate(self.losses) if each <= loss), None)

    def has_diverged(self):
        """It ended early, or is worse than knowing nothing but that letters differ: above the loss of its first tenth."""
        return not math.isfinite(self.last()) or self.last() > self.losses[0]


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


def peak_of(pid):
    """The most memory that the process had, bytes; 0 when it has ended."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def cost_of(spec):
    """(tokens for each CPU second of all ranks together, between the second step and the last; the most memory of a rank)."""
    with ranks.Gang(spec, meter=lambda pid: (now(pid), peak_of(pid))) as gang:
        for rank in gang.ranks:
            rank.reader.join()  # before anybody waits for its process, of which nothing could be read then
        codes = gang.exit_codes(600)
        assert codes == [ranks.FINISHED] * len(codes), gang.evidence()
        peak = max(memory for rank in gang.ranks for _, memory in rank.readings)
        steps, readings = next((rank.reports, rank.readings) for rank in gang.ranks if rank.of_kind("Progress"))
    told = [(report["progress"]["step"], reading[0]) for report, reading in zip(steps, readings) if report["kind"] == "Progress"]
    (_, begin), (_, end) = told[1], told[-1]
    tokens = (told[-1][0] - told[1][0]) * spec["training"]["globalBatchSize"] * spec["data"]["sequenceLength"]
    return tokens / (end[1] - begin[1]) / len(codes), peak


def peak_of_tensors(spec):
    """The most memory of a rank while malloc gives back at once what is freed. It would else keep it for the next tensor that fits, and the most that a
    process had would say more of how the sizes follow each other than of how many there are at a time. That costs time: rates are another run's."""
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.mmap_threshold=65536:glibc.malloc.trim_threshold=65536"
    try:
        return cost_of(spec)[1]
    finally:
        del os.environ["GLIBC_TUNABLES"]


def costs(rows):
    """Prints each row's; `rows`: name and spec. A run of a model of nothing tells what a process has anyway."""
    small = ranks.job(ROOT / "LICENSE", 100, size={**SIZE, "layers": 1, "hiddenSize": 16, "feedForwardSize": 16}, batch=rows[0][1]["workers"]["count"], micro_batch=1,
                      data=rows[0][1]["workers"]["count"], reduction="Fast")
    anyway = peak_of_tensors(small)
    print(f"  a process has {anyway / 2**20:.0f} MiB anyway")
    first = None
    for name, spec in rows:
        rate, peak = cost_of(spec)[0], peak_of_tensors(spec)
        first = first or (rate, peak - anyway)
        print(f"  {name:22} {rate:8.0f} tokens a CPU second, {rate / first[0]:.2f} x; beyond that {(peak - anyway) / 2**20:6.0f} MiB, {(peak - anyway) / first[1]:.2f} x", flush=True)


WIDE = {"layers": 4, "hiddenSize": 512, "heads": 8, "keyValueHeads": 4, "feedForwardSize": 1536, "vocabularySize": 256}


def formats(options):
    print("number formats: 4 layers of width 512, 2 sequences of 512 tokens in a micro-batch, one rank of one thread")
    costs([(f"{compute}{f', moments {states}' if states else ''}", with_states(
        ranks.job(ROOT / "LICENSE", 5, size=WIDE, sequence_length=512, batch=2, micro_batch=2, reduction="Fast", precision=compute), states))
        for compute, states in (("FP32", None), ("BF16", None), ("FP32", "Blockwise8Bit"), ("BF16", "Blockwise8Bit"))])


def with_states(spec, states):
    if states:
        spec["training"]["precision"]["optimizerStates"] = states
    return spec


def recomputation(options):
    print("recomputation: 8 layers of width 256, 4 sequences of 512 tokens in a micro-batch, FP32, one rank of one thread")
    rows = []
    for mode in ("None", "Selective", "Full"):
        spec = ranks.job(ROOT / "LICENSE", 5, size={**WIDE, "layers": 8, "hiddenSize": 256, "feedForwardSize": 768}, sequence_length=512, batch=4, micro_batch=4,
                         reduction="Fast")
        spec["training"]["activationCheckpointing"] = {"mode": mode}
        rows.append((mode, spec))
    costs(rows)


def zero(options):
    print("ZeRO: 8 layers of width 512, four ranks of one thread over Gloo, a sequence of 64 tokens each, FP32; the most that one rank has")
    costs([(f"stage {stage}", ranks.job(ROOT / "LICENSE", 5, size={**WIDE, "layers": 8}, sequence_length=64, batch=4, micro_batch=1, reduction="Fast", data=4,
                                        zero=stage)) for stage in (0, 1, 2, 3)])


def main():
    parts = {"schedule": schedule, "clipping": clipping, "decay": decay, "precision": precision, "formats": formats, "recomputation": recomputation,
             "zero": zero}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=str(ROOT / "corpus"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(parts)}; all of them by default")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(parts)}")
    for part in options.parts or parts:
        parts[part](options)


if __name__ == "__main__":
    main()
