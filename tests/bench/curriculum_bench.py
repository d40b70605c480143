"""What a curriculum of sequence lengths does to the loss on whole samples, at equal tokens: the same small model with and without one, on the
text of the demo (.ci/corpus), for several seeds. A loss is the same on any machine up to rounding. docs/performance.md reads it.

    .tools/torch/bin/python3 tests/bench/curriculum_bench.py [--corpus corpus] [--steps 400] [--seeds 2]
"""

import argparse
import pathlib
import statistics
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/worker/trainer/oracle"))

import ranks  # noqa: E402

SIZE = {"layers": 2, "hiddenSize": 64, "heads": 4, "keyValueHeads": 2, "feedForwardSize": 160, "vocabularySize": 256}
SEQUENCE, BATCH, MICRO_BATCH = 256, 8, 4


def stages(steps):
    """A quarter of the steps on an eighth of the length, a quarter on half of it."""
    return [{"untilStep": steps // 4, "sequenceLength": SEQUENCE // 8}, {"untilStep": steps // 2, "sequenceLength": SEQUENCE // 2}]


def losses(options, seed, curriculum, out):
    """The validation loss at each tenth of the steps."""
    spec = ranks.job(pathlib.Path(options.corpus) / "train", options.steps, size=SIZE, sequence_length=SEQUENCE, batch=BATCH,
                     micro_batch=MICRO_BATCH, seed=seed, reduction="Fast", curriculum=curriculum)
    spec["data"]["validation"] = [{"path": str(pathlib.Path(options.corpus) / "validation")}]
    every = max(1, options.steps // 10)
    spec["evaluation"] = {"everySteps": every, "batches": 8}
    steps = ranks.run(spec, seconds=3600)
    out.extend(entry["validationLoss"] for entry in steps if entry["step"] % every == 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=str(ROOT / "corpus"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    differences = []
    for seed in range(1, options.seeds + 1):
        plain, growing = [], []
        runs = [threading.Thread(target=losses, args=(options, seed, None, plain)),
                threading.Thread(target=losses, args=(options, seed, stages(options.steps), growing))]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        print(f"seed {seed}, validation loss at each tenth of {options.steps} steps of {BATCH * SEQUENCE} tokens")
        print("  without   " + " ".join(f"{loss:.4f}" for loss in plain))
        print("  with      " + " ".join(f"{loss:.4f}" for loss in growing), flush=True)
        differences.append(growing[-1] - plain[-1])
    print(f"with less without, at the end: {statistics.mean(differences):+.4f} nats a token, "
          f"from {min(differences):+.4f} to {max(differences):+.4f} over {options.seeds} seeds")


if __name__ == "__main__":
    main()
