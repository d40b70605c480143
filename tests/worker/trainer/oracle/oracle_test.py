"""One trainyard-rank process against eager PyTorch, which computes the same training a second time: sample order, initial values,
model, loss, gradients, norm, clipping, learning rate, AdamW. Losses must be the same bits. Run with the Python that has PyTorch;
TRAINYARD_BIN_DIR names the folder of the program."""

import math
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import torch  # noqa: E402

import initial_values  # noqa: E402
import ranks  # noqa: E402
import stored_tensors  # noqa: E402
from eager_llama import philox  # noqa: E402
from ranks import job  # noqa: E402
from training import Training, balanced_sum, learning_rate  # noqa: E402

CORPUS = ranks.ROOT / "LICENSE"
SEVERAL = [{"path": str(CORPUS), "weight": 3.0}, {"path": str(ranks.ROOT / "CMakeLists.txt"), "weight": 1.0},
           {"path": str(ranks.ROOT / "crds/examples"), "weight": 0.5}]


class Oracle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)

    def compare(self, spec):
        """Runs both, and compares every step. Returns the oracle after its last step."""
        reported = ranks.run(spec)
        steps = spec["training"]["steps"]
        self.assertEqual([entry["step"] for entry in reported], list(range(1, steps + 1)))
        oracle = Training(spec, initial_values.of_model(spec["model"]["size"], spec["training"]["seed"]))
        wanted = [oracle.step() for _ in range(steps)]
        for found in reported:
            step, expected = found["step"], wanted[found["step"] - 1]
            is_finite = math.isfinite(expected["gradientNorm"])
            for what in ("loss", "learningRate") + (("gradientNorm",) if is_finite else ()):
                self.assertEqual(found[what].hex(), expected[what].hex(), f"{what} of step {step}")
            self.assertEqual(found.get("skippedSteps", 0), expected["skipped"], f"step {step}")
            if oracle.half:
                self.assertEqual(found["lossScale"], expected["lossScale"], f"step {step}")
            if not is_finite:
                self.assertNotIn("gradientNorm", found, f"step {step}")
                continue
            self.assertLess(abs(found["gradientNorm"] / expected["stockNorm"] - 1), 1.0e-6, f"stock norm of step {step}")
        self.assertLess(wanted[-1]["loss"], wanted[0]["loss"])
        return oracle

    def test_losses_of_200_steps_are_the_same_bits(self):
        self.compare(job(CORPUS, 200))

    def test_the_fast_reduction_of_one_process_is_the_same_bits(self):
        self.compare(job(CORPUS, 50, reduction="Fast", batch=12))

    def test_a_number_of_micro_batches_that_is_no_power_of_two_is_the_same_bits(self):
        self.compare(job(CORPUS, 20, batch=14, schedule={"name": "Linear", "warmupSteps": 5, "minimum": 1.0e-5}))

    def test_the_schedule_warmup_stable_decay_is_the_same_bits(self):
        self.compare(job(CORPUS, 30, schedule={"name": "WarmupStableDecay", "warmupSteps": 5, "decaySteps": 12, "minimum": 1.0e-5}))

    def test_several_weighted_sources_and_a_seed_are_the_same_bits(self):
        self.compare(job(SEVERAL, 40, seed=12345, schedule={"name": "Constant"}, max_norm=None))

    def test_sequences_that_grow_on_the_way_are_the_same_bits(self):
        for ends in ([{"untilStep": 5}, {"untilStep": 11}], [{"untilTokens": 1100}, {"untilTokens": 2400}], [{"untilEpoch": 0.1}, {"untilEpoch": 0.3}]):
            with self.subTest(ends):
                self.compare(job(CORPUS, 20, curriculum=[{**end, "sequenceLength": length} for end, length in zip(ends, (4, 16))]))

    def test_label_smoothing_and_z_loss_are_the_same_bits(self):
        for terms in ({"labelSmoothing": 0.1}, {"zLoss": 1.0e-3}, {"labelSmoothing": 0.1, "zLoss": 1.0e-3}):
            with self.subTest(terms):
                self.compare(job(CORPUS, 30, loss=terms))

    def test_dropout_is_the_same_bits(self):
        size = {"layers": 3, "hiddenSize": 44, "heads": 2, "feedForwardSize": 96, "vocabularySize": 256}
        self.compare(job(CORPUS, 30, size=size, dropout=0.1, seed=2**40 + 3))

    def test_the_whole_recipe_is_the_same_bits(self):
        self.compare(job(CORPUS, 30, dropout=0.2, loss={"labelSmoothing": 0.1, "zLoss": 1.0e-4}, precision="FP16",
                         curriculum=[{"untilStep": 8, "sequenceLength": 8}, {"untilStep": 20, "sequenceLength": 16}]))

    def test_tied_embeddings_without_grouped_queries_are_the_same_bits(self):
        size = {"layers": 3, "hiddenSize": 48, "heads": 3, "feedForwardSize": 128, "vocabularySize": 256, "tieEmbeddings": True,
                "ropeTheta": 500000.0, "normEpsilon": 1.0e-6}
        self.compare(job(CORPUS, 40, size=size, sequence_length=17, weight_decay=0.1))

    def test_the_model_of_the_demo_is_the_same_bits(self):
        size = {"layers": 4, "hiddenSize": 128, "heads": 4, "keyValueHeads": 2, "feedForwardSize": 384, "vocabularySize": 256}
        self.compare(job(CORPUS, 10, size=size, sequence_length=64, batch=16, micro_batch=4))

    def test_fp16_with_its_loss_scale_is_the_same_bits(self):
        self.compare(job(CORPUS, 60, precision="FP16"))

    def test_fp16_skips_the_steps_that_pytorchs_scaler_skips(self):
        with tempfile.TemporaryDirectory() as folder:
            corpus = pathlib.Path(folder) / "monotonous"  # the errors of all tokens add up in the head's gradient, beyond what FP16 holds
            corpus.write_text("aaaaaaaaaaaaaaab" * 1000)
            oracle = self.compare(job(corpus, 40, batch=2, precision="FP16", checkpoint={"path": folder + "/checkpoints"}))
            manifest, stored = stored_tensors.read_checkpoint(stored_tensors.newest(folder + "/checkpoints"))
        self.assertGreater(oracle.skipped, 0, "this is about steps that are skipped")
        self.assertEqual(manifest["state"]["lossScale"], {"scale": oracle.scaler.get_scale(),
                                                          "growthTracker": oracle.scaler._get_growth_tracker()})
        for name, tensor in oracle.parameters.items():
            self.assertTrue(stored[name].equal(tensor.detach()), name)
            self.assertTrue(stored["optimizer.exp_avg_sq." + name].equal(oracle.optimizer.state[tensor]["exp_avg_sq"]), name)

    def test_weights_and_moments_after_the_last_step_are_the_same_bits(self):
        with tempfile.TemporaryDirectory() as folder:
            oracle = self.compare(job(CORPUS, 20, checkpoint={"path": folder}))
            manifest, stored = stored_tensors.read_checkpoint(stored_tensors.newest(folder))
        self.assertEqual(manifest["step"], 20)
        compared = 0
        for name, tensor in oracle.parameters.items():
            state = oracle.optimizer.state[tensor]
            for stored_name, wanted in ((name, tensor.detach()), ("optimizer.exp_avg." + name, state["exp_avg"]),
                                        ("optimizer.exp_avg_sq." + name, state["exp_avg_sq"])):
                self.assertTrue(stored[stored_name].equal(wanted), stored_name)
                compared += 1
        self.assertEqual(compared, len(stored))


class Expressions(unittest.TestCase):
    """What the oracle itself says, without the program."""

    def test_philox_gives_the_published_answers(self):
        self.assertEqual(philox((0, 0, 0, 0), 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8))
        self.assertEqual(philox((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0A4093822),
                         (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1))

    def test_the_tree_of_four_is_two_pairs(self):
        self.assertEqual(balanced_sum([1.0e16, 1.0, -1.0e16, 1.0]), (1.0e16 + 1.0) + (-1.0e16 + 1.0))

    def test_roots_that_remain_are_joined_from_the_youngest(self):
        class Text(str):
            def __add__(self, other):
                return Text(f"({self}{other})")

        self.assertEqual(balanced_sum([Text(letter) for letter in "abcdefg"]), "(((ab)(cd))((ef)g))")

    def test_the_learning_rate_warms_up_and_ends_at_the_minimum(self):
        for name, halfway in (("Cosine", 0.55), ("Linear", 0.55), ("Constant", 1.0), ("WarmupStableDecay", 1.0)):
            training = {"steps": 20, "optimizer": {"learningRate": 1.0},
                        "learningRateSchedule": {"name": name, "warmupSteps": 10, "minimum": 0.1}}
            self.assertEqual([learning_rate(training, step) for step in (1, 5, 10)], [0.1, 0.5, 1.0])
            self.assertAlmostEqual(learning_rate(training, 15), halfway)
            self.assertAlmostEqual(learning_rate(training, 20), 0.1 if name != "Constant" else 1.0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
