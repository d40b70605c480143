"""The equality matrix as processes over Gloo: a set of layouts of up to eight ranks that holds each pair of two choices (matrix_test.cc has the whole
of it, its ranks as threads). Run with the Python that has PyTorch; TRAINYARD_BIN_DIR names the folder of the program."""

import itertools
import json
import math
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import ranks  # noqa: E402
from ranks import job  # noqa: E402

CORPUS = ranks.ROOT / "LICENSE"
STEPS = 4
CHOICES = {
    "pipeline": (1, 2, 3),
    "data": (1, 2, 3, 4),
    "tensor": (1, 2),
    "zero": (0, 1, 2, 3),
    "schedule": ("OneForwardOneBackward", "GPipe", "Interleaved", "ZeroBubble"),
    "recomputation": ("None", "Selective", "Full"),
    "sequence": (False, True),
    "reduction": ("Canonical", "Fast"),
}


def is_power_of_two(number):
    return number & (number - 1) == 0


def batch(choice):
    """Of micro-batches of one sample: a multiple of data, and of the pipeline for Interleaved."""
    most = max(choice["pipeline"], choice["data"])
    return 8 if is_power_of_two(most) else 12 if most == 3 else 2 * most


def is_valid(choice):
    """What a user may ask for, but for what is the same as another: one stage has no schedule, one data rank no shards, one tensor rank no sequence
    parallelism."""
    stages, data, tensor = choice["pipeline"], choice["data"], choice["tensor"]
    if stages * data * tensor > 8:
        return False
    if choice["schedule"] == "Interleaved" and (batch(choice) % (data * stages) or 2 * stages > 7):
        return False
    return (stages > 1 or choice["schedule"] == CHOICES["schedule"][0]) and (data > 1 or choice["zero"] == 0) and (tensor > 1 or not choice["sequence"])


def covering_set(choices):
    """As covering_set.h, but for the one with the most new pairs a process is next: these cost the time."""
    pairs = [set(itertools.combinations(sorted(choice.items()), 2)) for choice in choices]
    missing = set().union(*pairs)
    chosen = []
    while missing:
        best = max(range(len(choices)), key=lambda i: (len(pairs[i] & missing) / (2 + num_ranks(choices[i])), -i))
        chosen.append(choices[best])
        missing -= pairs[best]
    return chosen


def num_ranks(choice):
    return choice["pipeline"] * choice["data"] * choice["tensor"]


def layouts():
    every = (dict(zip(CHOICES, values)) for values in itertools.product(*CHOICES.values()))
    return covering_set([choice for choice in every if is_valid(choice)])


def plain(choice):
    """What one process is to train the same as."""
    return {"micro_batch": 1, "batch": batch(choice), "sequence_length": 16, "reduction": choice["reduction"],
            "size": {"layers": 7, "hiddenSize": 32, "heads": 4, "keyValueHeads": 4, "feedForwardSize": 64, "vocabularySize": 257}}


def train(steps=STEPS, recomputation="None", **layout):
    """Exactly: the losses and norms of all steps, and the hashes of weights and moments at the end, which no layout changes (docs/formats.md)."""
    with tempfile.TemporaryDirectory() as path:
        spec = job(CORPUS, steps, checkpoint={"path": path}, **layout)
        spec["training"]["activationCheckpointing"] = {"mode": recomputation}
        progress = ranks.run(spec)
        newest = max(pathlib.Path(path).glob("step-*"))
        tensors = json.loads((newest / "manifest.json").read_text())["tensors"]
    return {"losses": [entry["loss"] for entry in progress], "norms": [entry["gradientNorm"] for entry in progress],
            "tensors": {name: tensor["hash"] for name, tensor in tensors.items()}}


class Matrix(unittest.TestCase):
    def reference(self, choice, tensor):
        key = json.dumps([plain(choice), tensor, tensor > 1 and choice["sequence"]])
        if key not in self.references:
            self.references[key] = train(**plain(choice), tensor=tensor, sequence=tensor > 1 and choice["sequence"])
        return self.references[key]

    references = {}

    def expect_close(self, found, wanted):
        """The first loss and norm within 1e-6, losses within 1e-5."""
        self.assertEqual(len(found["losses"]), len(wanted["losses"]))
        for what in ("losses", "norms"):
            self.assertLess(abs(found[what][0] / wanted[what][0] - 1), 1.0e-6, what)
        for step, (mine, theirs) in enumerate(zip(found["losses"], wanted["losses"])):
            self.assertLess(abs(mine - theirs), 1.0e-5, f"step {step + 1}")

    def test_layouts_over_gloo_equal_one_process(self):
        """Under Canonical to the bit, its tensor ranks alone where there are some; close where sums are taken in another order."""
        chosen, num_equal = layouts(), 0
        for choice in chosen:
            with self.subTest(choice):
                layout = {key: choice[key] for key in ("pipeline", "data", "tensor", "zero", "sequence", "recomputation")}
                schedule = {"name": choice["schedule"], "virtualStages": 2 if choice["schedule"] == "Interleaved" else 1}
                found = train(**plain(choice), **layout, pipeline_schedule=schedule)
                data = choice["data"]
                has_equal_bits = data == 1 or (is_power_of_two(data) and is_power_of_two(batch(choice) // data))
                if choice["reduction"] == "Canonical" and has_equal_bits:
                    self.assertEqual(found, self.reference(choice, choice["tensor"]))
                    num_equal += 1
                else:
                    self.expect_close(found, self.reference(choice, 1))
        print(f"{num_equal} of {len(chosen)} layouts equal to the bit, {sum(num_ranks(choice) for choice in chosen)} ranks in all", file=sys.stderr)
        self.assertGreater(num_equal, len(chosen) // 4)
        self.assertTrue(all(math.isfinite(loss) for reference in self.references.values() for loss in reference["losses"]))


if __name__ == "__main__":
    unittest.main(verbosity=2)
