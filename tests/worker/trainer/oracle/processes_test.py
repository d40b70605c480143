"""Several trainyard-rank processes over Gloo on loopback: the same losses in every layout, stopping and resuming, and each way to end.
Run with the Python that has PyTorch; TRAINYARD_BIN_DIR names the folder of the program."""

import math
import pathlib
import signal
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import ranks  # noqa: E402
import stored_tensors  # noqa: E402
from ranks import Gang, job  # noqa: E402

CORPUS = ranks.ROOT / "LICENSE"
STEPS = 60


def losses(steps):
    """Exactly, by step."""
    return {entry["step"]: entry["loss"].hex() for entry in steps}


class Processes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.reference = losses(ranks.run(job(CORPUS, STEPS)))
        assert list(cls.reference) == list(range(1, STEPS + 1)), "the reference lacks a step"
        cls.folder = tempfile.TemporaryDirectory()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def checkpoints(self, name):
        return str(pathlib.Path(self.folder.name) / name)

    def expect_same(self, steps, reference):
        """Every step of the reference was reported; one that was done again after a resume counts as it was the last time."""
        self.assertEqual(losses(steps), reference)

    def expect_close(self, steps, reference):
        """The first loss to 1e-6, later ones to 1e-5, relative."""
        self.assertEqual([entry["step"] for entry in steps], list(reference))
        for entry in steps:
            step, wanted = entry["step"], float.fromhex(reference[entry["step"]])
            self.assertLess(abs(entry["loss"] / wanted - 1), 1.0e-6 if step == 1 else 1.0e-5, f"step {step}")

    def test_one_process_learns(self):
        self.assertAlmostEqual(float.fromhex(self.reference[1]), math.log(256), delta=0.1)
        self.assertLess(float.fromhex(self.reference[STEPS]), 0.8 * math.log(256))

    def test_canonical_data_2_equals_one_process_bit_for_bit(self):
        self.expect_same(ranks.run(job(CORPUS, STEPS, data=2)), self.reference)

    def test_canonical_data_4_equals_one_process_bit_for_bit(self):
        self.expect_same(ranks.run(job(CORPUS, STEPS, data=4)), self.reference)

    def test_canonical_pipeline_2_equals_one_process_bit_for_bit(self):
        self.expect_same(ranks.run(job(CORPUS, STEPS, pipeline=2)), self.reference)

    def test_canonical_data_2_by_pipeline_2_equals_one_process_bit_for_bit(self):
        self.expect_same(ranks.run(job(CORPUS, STEPS, data=2, pipeline=2)), self.reference)

    def test_canonical_zero_equals_one_process_bit_for_bit(self):
        for layout in ({"zero": 1, "data": 2}, {"zero": 2, "data": 4}, {"zero": 3, "data": 2, "pipeline": 2}):
            with self.subTest(layout):
                self.expect_same(ranks.run(job(CORPUS, STEPS, **layout)), self.reference)

    def test_fast_zero_stays_within_the_tolerance(self):
        reference = losses(ranks.run(job(CORPUS, 100)))
        for layout in ({"zero": 2, "data": 2}, {"zero": 3, "data": 2, "tensor": 2}):
            with self.subTest(layout):
                self.expect_close(ranks.run(job(CORPUS, 100, reduction="Fast", **layout)), reference)

    def test_fast_data_2_stays_within_the_tolerance(self):
        self.expect_close(ranks.run(job(CORPUS, 100, data=2, reduction="Fast")), losses(ranks.run(job(CORPUS, 100))))

    def test_tensor_2_stays_within_the_tolerance(self):
        self.expect_close(ranks.run(job(CORPUS, 100, tensor=2)), losses(ranks.run(job(CORPUS, 100))))

    def test_tensor_2_with_sequence_parallelism_has_its_first_loss_and_stays_within_the_tolerance(self):
        reference = losses(ranks.run(job(CORPUS, 100)))
        for reduction in ("Canonical", "Fast"):
            with self.subTest(reduction):
                first = losses(ranks.run(job(CORPUS, 1, tensor=2, reduction=reduction)))[1]
                steps = ranks.run(job(CORPUS, 100, tensor=2, sequence=True, reduction=reduction))
                self.assertEqual(losses(steps)[1], first)
                self.expect_close(steps, reference)

    def test_canonical_tensor_2_with_sequence_parallelism_by_pipeline_2_equals_one_stage_bit_for_bit(self):
        one_stage = losses(ranks.run(job(CORPUS, 20, tensor=2, sequence=True)))
        for layout in ({"pipeline": 2}, {"pipeline": 2, "pipeline_schedule": {"name": "ZeroBubble"}}, {"data": 2, "zero": 3}):
            with self.subTest(layout):
                self.expect_same(ranks.run(job(CORPUS, 20, tensor=2, sequence=True, **layout)), one_stage)

    def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(self):
        path = self.checkpoints("resume")
        spec = job(CORPUS, STEPS, data=2, checkpoint={"path": path})
        with Gang(spec) as gang:
            gang.ranks[0].wait_for(lambda rank: rank.of_kind("Progress"))
            gang.ranks[1].say({"checkpointRequest": 1, "stopAfter": 1})  # whoever hears it, all ranks act on it
            self.assertEqual(gang.exit_codes(), [ranks.STOPPED] * 2)
            before = gang.progress()
            written = [report for rank in gang.ranks for report in rank.reports if report["kind"] == "Checkpoint"]
        self.assertEqual({report["request"] for report in written}, {1})
        stopped_at = written[0]["checkpoint"]["step"]
        self.assertEqual(before[-1]["step"], stopped_at)
        self.assertLess(stopped_at, STEPS)
        with Gang(spec) as gang:
            self.assertEqual(gang.exit_codes(), [ranks.FINISHED] * 2)
            after = gang.progress()
            notices = [notice["reason"] for rank in gang.ranks for notice in rank.of_kind("Notice")]
        self.assertIn("Resumed", notices)
        self.assertGreater(after[0]["step"], stopped_at)
        self.expect_same(before + after, self.reference)

    def test_a_killed_run_goes_on_from_its_last_checkpoint_bit_for_bit(self):
        spec = job(CORPUS, STEPS, data=2, checkpoint={"path": self.checkpoints("killed"), "everySteps": 10})
        with Gang(spec) as gang:
            gang.ranks[0].wait_for(lambda rank: rank.of_kind("Checkpoint"))
            for rank in gang.ranks:
                rank.process.kill()
            gang.exit_codes()
            before = gang.progress()
        after = ranks.run(spec)
        self.assertGreater(after[0]["step"], 10)
        again = losses(before).keys() & losses(after).keys()  # between the checkpoint and the kill
        self.assertEqual({step: losses(before)[step] for step in again}, {step: losses(after)[step] for step in again})
        self.expect_same(before + after, self.reference)

    def test_a_finished_run_that_is_started_again_is_finished(self):
        spec = job(CORPUS, 3, checkpoint={"path": self.checkpoints("finished")})
        ranks.run(spec)
        with Gang(spec) as gang:
            self.assertEqual(gang.exit_codes(), [ranks.FINISHED])
            self.assertEqual(gang.ranks[0].of_kind("Notice")[0]["reason"], "Resumed")

    def test_a_run_resumes_in_another_layout_bit_for_bit(self):
        path = self.checkpoints("reshard")
        with Gang(job(CORPUS, STEPS, pipeline=2, checkpoint={"path": path})) as gang:
            gang.ranks[1].wait_for(lambda rank: rank.of_kind("Progress"))
            gang.say({"checkpointRequest": 1, "stopAfter": 1})
            self.assertEqual(gang.exit_codes(), [ranks.STOPPED] * 2)
            before = gang.progress()
        after = ranks.run(job(CORPUS, STEPS, data=2, checkpoint={"path": path}))
        self.expect_same(before + after, self.reference)

    def test_a_run_at_zero_3_resumes_at_zero_1_with_more_ranks_bit_for_bit(self):
        path = self.checkpoints("zero")
        with Gang(job(CORPUS, STEPS, zero=3, data=2, checkpoint={"path": path})) as gang:
            gang.ranks[0].wait_for(lambda rank: rank.of_kind("Progress"))
            gang.say({"checkpointRequest": 1, "stopAfter": 1})
            self.assertEqual(gang.exit_codes(), [ranks.STOPPED] * 2)
            before = gang.progress()
        after = ranks.run(job(CORPUS, STEPS, zero=1, data=4, checkpoint={"path": path}))
        self.expect_same(before + after, self.reference)

    def stored_after(self, steps, **layout):
        """The tensors of the checkpoint that a run of so many steps ends with."""
        with tempfile.TemporaryDirectory() as path:
            ranks.run(job(CORPUS, steps, checkpoint={"path": path}, **layout))
            manifest, tensors = stored_tensors.read_checkpoint(stored_tensors.newest(path))
        self.assertEqual(manifest["step"], steps)
        return tensors

    def test_layouts_write_the_same_weights_and_moments_as_one_process(self):
        reference = self.stored_after(4)
        for layout in ({"data": 2}, {"pipeline": 2}):
            found = self.stored_after(4, **layout)
            self.assertEqual(found.keys(), reference.keys())
            for name, tensor in found.items():
                self.assertTrue(tensor.equal(reference[name]), f"{name} of {layout}")

    def test_gradients_of_the_first_step_are_within_the_tolerance_with_tensor_2_and_fast(self):
        reference = self.stored_after(1)
        moments = [name for name in reference if name.startswith("optimizer.exp_avg.")]  # after one step: the gradient, times 0.1
        self.assertEqual(len(moments), len(reference) // 3)
        for layout in ({"tensor": 2}, {"tensor": 2, "sequence": True}, {"data": 2, "reduction": "Fast"}):
            found = self.stored_after(1, **layout)
            for name in moments:
                distance = (found[name] - reference[name]).norm() / reference[name].norm()
                self.assertLess(distance.item(), 1.0e-6, f"{name} of {layout}")

    def test_the_ranks_of_a_killed_peer_end_as_its_victims(self):
        with Gang(job(CORPUS, 100000, data=4)) as gang:
            gang.ranks[0].wait_for(lambda rank: rank.of_kind("Progress"))
            gang.ranks[2].process.kill()
            codes = gang.exit_codes(30)
        self.assertEqual(codes, [ranks.PEER_LOST, ranks.PEER_LOST, -signal.SIGKILL, ranks.PEER_LOST])

    def test_the_neighbour_of_a_killed_stage_ends_as_its_victim(self):
        for killed in (0, 1):
            with Gang(job(CORPUS, 100000, pipeline=2)) as gang:
                gang.ranks[1].wait_for(lambda rank: rank.of_kind("Progress"))
                gang.ranks[killed].process.kill()
                codes = gang.exit_codes(30)
                failure = gang.ranks[1 - killed].of_kind("Failure")[0]
            self.assertEqual(codes[1 - killed], ranks.PEER_LOST)
            self.assertEqual((failure["class"], failure["reason"]), ("Transient", "PeerLost"))

    def test_three_stages_with_a_tied_embedding_equal_one_process_bit_for_bit(self):
        size = {"layers": 3, "hiddenSize": 48, "heads": 3, "feedForwardSize": 128, "vocabularySize": 256, "tieEmbeddings": True}
        reference = losses(ranks.run(job(CORPUS, 10, size=size)))
        self.assertEqual(losses(ranks.run(job(CORPUS, 10, size=size, pipeline=3))), reference)

    def test_every_pipeline_schedule_equals_one_process_bit_for_bit(self):
        small = {"size": {"layers": 6, "hiddenSize": 48, "heads": 3, "feedForwardSize": 128, "vocabularySize": 256, "tieEmbeddings": True},
                 "micro_batch": 1, "batch": 12}
        reference = losses(ranks.run(job(CORPUS, 10, **small)))
        for pipeline, name, virtual_stages in ((2, "GPipe", 1), (2, "ZeroBubble", 1), (2, "Interleaved", 3), (3, "Interleaved", 2)):
            schedule = {"name": name, "virtualStages": virtual_stages}
            with self.subTest(pipeline=pipeline, schedule=schedule):
                steps = ranks.run(job(CORPUS, 10, pipeline=pipeline, pipeline_schedule=schedule, **small))
                self.assertEqual(losses(steps), reference)

    def test_a_checkpoint_of_interleaved_stages_is_resumed_by_a_zero_bubble_pipeline_bit_for_bit(self):
        small = {"size": {"layers": 4, "hiddenSize": 48, "heads": 3, "feedForwardSize": 128, "vocabularySize": 256},
                 "micro_batch": 1, "pipeline": 2, "checkpoint": {"path": self.checkpoints("schedules")}}
        alone = {**small, "pipeline": 1, "checkpoint": None}
        with Gang(job(CORPUS, STEPS, pipeline_schedule={"name": "Interleaved", "virtualStages": 2}, **small)) as gang:
            gang.ranks[1].wait_for(lambda rank: rank.of_kind("Progress"))
            gang.say({"checkpointRequest": 1, "stopAfter": 1})
            self.assertEqual(gang.exit_codes(), [ranks.STOPPED] * 2)
            before = gang.progress()
        after = ranks.run(job(CORPUS, STEPS, pipeline_schedule={"name": "ZeroBubble"}, **small))
        self.assertGreater(after[0]["step"], before[-1]["step"])
        self.expect_same(before + after, losses(ranks.run(job(CORPUS, STEPS, **alone))))

    def test_the_peer_of_a_rank_that_is_killed_at_zero_3_ends_as_its_victim(self):
        with Gang(job(CORPUS, 100000, zero=3, data=2)) as gang:
            gang.ranks[0].wait_for(lambda rank: rank.of_kind("Progress"))
            gang.ranks[1].process.kill()
            codes = gang.exit_codes(30)
        self.assertEqual(codes, [ranks.PEER_LOST, -signal.SIGKILL])

    def test_a_rank_ends_with_its_agent(self):
        with Gang(job(CORPUS, 100000)) as gang:
            gang.ranks[0].wait_for(lambda rank: rank.of_kind("Progress"))
            gang.ranks[0].process.stdin.close()
            self.assertNotIn(gang.exit_codes(10)[0], (ranks.FINISHED, ranks.STOPPED))

    def expect_user_error(self, spec, reason, *parts, folders=None):
        with Gang(spec, folders=folders) as gang:
            self.assertEqual(gang.exit_codes(30), [ranks.USER_ERROR] * len(gang.ranks))
            failures = [failure for rank in gang.ranks for failure in rank.of_kind("Failure")]
        self.assertTrue(failures)
        for failure in failures:
            self.assertEqual((failure["class"], failure["reason"]), ("User", reason))
            for part in parts:
                self.assertIn(part, failure["message"])

    def test_a_missing_corpus_is_the_users_error_and_named(self):
        sources = [{"path": "/nowhere/train"}, {"path": str(CORPUS)}, {"path": "/nowhere/else"}]
        self.expect_user_error(job(sources, 10), "CorpusMissing", "/nowhere/train", "/nowhere/else")

    def test_a_checkpoint_folder_that_cannot_be_written_is_the_users_error_and_named(self):
        spec = job(CORPUS, 10, checkpoint={"path": "/proc/checkpoints"})
        self.expect_user_error(spec, "CheckpointsNotWritable", "/proc/checkpoints")

    def test_checkpoints_that_the_workers_do_not_share_are_the_users_error(self):
        folders = [self.checkpoints("own-0"), self.checkpoints("own-1")]
        for folder in folders:
            pathlib.Path(folder).mkdir()
        spec = job(CORPUS, 10, data=2, checkpoint={"path": "/proc/self/cwd/checkpoints"})  # the same path, another folder on each rank
        self.expect_user_error(spec, "CheckpointsNotShared", "not shared among workers", "/proc/self/cwd/checkpoints", folders=folders)


if __name__ == "__main__":
    unittest.main(verbosity=2)
