// The program trainyard-worker itself: both commands, their exit codes, and what is left when they are killed.

#include <csignal>

#include <gtest/gtest.h>

#include "tests/paths.h"
#include "tests/worker/agent/agent_in_thread.h"
#include "tests/worker/agent/process_facts.h"
#include "tests/worker/agent/signed_client.h"
#include "tests/worker/agent/worker_program.h"
#include "worker/agent/run_command.h"

namespace trainyard::agent {
namespace {

using testing::is_alive;
using testing::is_gone_soon;
using testing::WorkerProgram;

const std::string kExample = test::kSourceDir + std::string("/crds/examples/dictionary-tiny.yaml");
const std::string kFakeRank = std::string(test::kBinDir) + "/fake-rank";

class RunCommandTest : public ::testing::Test {
 protected:
  RunCommandTest() {
    std::filesystem::create_directories(folder.path() / "train");
    std::filesystem::create_directories(folder.path() / "validation");
  }
  /// `run` of the example, whose two ranks follow `script`.
  WorkerProgram run(const std::string& script) {
    return WorkerProgram(
        {"run", kExample, "--path", "/data=" + folder.path().string(), "--rank-program", kFakeRank, "--every", "100"},
        {"FAKE_RANK_SCRIPT=" + script});
  }
  testing::TemporaryFolder folder;
};

TEST_F(RunCommandTest, TrainsAManifestToItsEnd) {
  auto program = run("steps:500 notice:disk_is_slow checkpoint");
  EXPECT_EQ(program.wait(), kRunSucceeded);
  const std::string out = program.out();
  for (const char* text : {"Training dictionary-tiny with 2 ranks", "step 300/500 (60%)", "Succeeded: step 500/500 (100%)",
                           "Warning: CheckpointFailed: disk_is_slow", "Checkpoint of step 7 at /checkpoints/dictionary-tiny"}) {
    EXPECT_NE(out.find(text), std::string::npos) << text << " in\n" << out;
  }
}

TEST_F(RunCommandTest, RestartsAfterACrashAndThenGoesOn) {
  auto program = run("steps:1 only:1 once:" + (folder.path() / "crashed").string());
  EXPECT_EQ(program.wait(), kRunSucceeded);
  EXPECT_NE(program.out().find("RankCrashed: rank 1 ended with exit code 1"), std::string::npos) << program.out();
  EXPECT_NE(program.out().find("restart 1 of 5"), std::string::npos) << program.out();
  EXPECT_NE(program.out().find("generation 2 rank 0"), std::string::npos) << program.out();
}

TEST_F(RunCommandTest, GivesUpWhenRestartsAreUsedUp) {
  auto program = run("say:as_always crash:6");
  EXPECT_EQ(program.wait(), kRunFailed);
  EXPECT_NE(program.out().find("restart 5 of 5"), std::string::npos);
  EXPECT_EQ(program.out().find("restart 6"), std::string::npos);
  EXPECT_NE(program.out().find("Failed: RankCrashed"), std::string::npos);
  EXPECT_NE(program.out().find("| as always"), std::string::npos);
}

TEST_F(RunCommandTest, DoesNotRestartAfterAnErrorOfTheUser) {
  auto program = run("report:no_corpus exit:2");
  EXPECT_EQ(program.wait(), kRunFailed);
  EXPECT_NE(program.out().find("Failed: CorpusMissing: no_corpus"), std::string::npos) << program.out();
  EXPECT_EQ(program.out().find("Restarting"), std::string::npos);
}

/// The example sets no lifecycle.hangTimeoutSeconds.
TEST_F(RunCommandTest, NamesTheRankThatHangsWhenAnotherGaveUpWaitingForIt) {
  for (const int seconds : {1, 300}) {
    const std::string told = folder.path() / ("told-" + std::to_string(seconds));
    auto program = run("only:0 busy steps:1 stubborn only:1 waits:" + std::to_string(seconds) + " until:" + told +
                       " exit:" + std::to_string(contract::kPeerLostExitCode));
    program.wait_for("step 1/500");  // the agent has read what rank 0 does
    std::ofstream(told) << "1";
    program.wait_for("Restarting");
    const std::string out = program.out();
    for (const char* text :
         {"RankHung: a collective did not end: rank 0 has done nothing for ",
          " s: in forward, after step 4; rank 1 waits for it in all_reduce 3 of the data axis (64 elements), since ",
          " s (rank 0)"}) {
      EXPECT_EQ(out.find(text) != std::string::npos, seconds == 300) << text << " in\n" << out;
    }
    EXPECT_EQ(out.find("PeerLost: rank 1 lost the connection to another rank (rank 1, exit code 76)") != std::string::npos,
              seconds == 1)
        << out;
  }
}

TEST_F(RunCommandTest, WritesACheckpointAndSaysHowToResumeOnCtrlC) {
  auto program = run("steps:5 wait");
  program.wait_for("step 1/500");
  program.signal(SIGINT);
  EXPECT_EQ(program.wait(), kRunStopped);
  EXPECT_NE(program.out().find("run the same command again"), std::string::npos) << program.out();
}

TEST_F(RunCommandTest, KillsTheRanksOnASecondCtrlC) {
  auto program = run("steps:5 stubborn");
  const int pid = std::stoi(program.wait_for("[rank 0] pid "));
  program.signal(SIGINT);
  program.wait_for("Stopping after a checkpoint");
  program.signal(SIGINT);
  EXPECT_EQ(program.wait(), kRunInterrupted);
  EXPECT_FALSE(is_alive(pid));
}

TEST_F(RunCommandTest, RefusesAManifestWithProblems) {
  WorkerProgram program({"run", kExample, "--rank-program", kFakeRank}, {});
  EXPECT_EQ(program.wait(), kRunRefused);
  EXPECT_NE(program.errors().find("spec.data.train[0].path: /data/train is not on this machine"), std::string::npos);
  WorkerProgram elsewhere({"run", kExample, "--rank-program", kFakeRank, "--path", "/data=/nowhere"}, {});
  EXPECT_EQ(elsewhere.wait(), kRunRefused);
  EXPECT_NE(
      elsewhere.errors().find("spec.data.train[0].path: /data/train is /nowhere/train by --path, which is not on this machine"),
      std::string::npos);
  WorkerProgram no_file({"run", "/nowhere.yaml"}, {});
  EXPECT_EQ(no_file.wait(), kRunRefused);
  WorkerProgram no_pair({"run", kExample, "--path", "/data"}, {});
  EXPECT_EQ(no_pair.wait(), kRunRefused);
  EXPECT_NE(no_pair.errors().find("must be FROM=TO"), std::string::npos);
}

TEST(WorkerProgram, KnowsItsVersionAndItsCommands) {
  WorkerProgram version({"--version"}, {});
  EXPECT_EQ(version.wait(), 0);
  EXPECT_TRUE(version.out().starts_with("trainyard-worker 0."));
  WorkerProgram nothing({}, {});
  EXPECT_EQ(nothing.wait(), 2);
}

class AgentCommandTest : public ::testing::Test {
 protected:
  std::vector<std::string> arguments() const {
    return {"agent",
            "--address",
            "127.0.0.1",
            "--port",
            "0",
            "--pod-uid",
            "pod-uid",
            "--key-file",
            key.string(),
            "--rank-program",
            kFakeRank,
            "--termination-log",
            (folder.path() / "last-word").string()};
  }
  static std::uint16_t port_of(const WorkerProgram& agent) {
    return static_cast<std::uint16_t>(std::stoi(agent.wait_for("\"port\":")));
  }
  static testing::SignedReply put(std::uint16_t port, const contract::Assignment& assignment) {
    return testing::send(
        port,
        {.method = "PUT", .target = "/v1/assignment", .body = contract::encode(assignment).dump(), .key = testing::kJobKey});
  }
  testing::TemporaryFolder folder;
  std::filesystem::path key = folder.write("key", testing::kJobKey);
};

TEST_F(AgentCommandTest, ServesStopsOnSigtermAndLeavesItsLastWord) {
  WorkerProgram agent(arguments(), {});
  const auto port = port_of(agent);
  ASSERT_EQ(put(port, testing::scripted(1, "steps:3 wait")).status, 200u);
  const int pid = std::stoi(agent.wait_for("[rank 0] pid "));
  testing::send(port, {.target = "/v1/state?after=2&waitSeconds=10", .key = testing::kJobKey});
  agent.signal(SIGTERM);
  EXPECT_EQ(agent.wait(), 0);
  EXPECT_FALSE(is_alive(pid));
  std::ostringstream last_word;
  last_word << std::ifstream(folder.path() / "last-word").rdbuf();
  EXPECT_NE(last_word.str().find("\"phase\":\"Stopped\""), std::string::npos) << last_word.str();
}

TEST_F(AgentCommandTest, TakesItsRanksAlongWhenItIsKilled) {
  WorkerProgram agent(arguments(), {});
  put(port_of(agent), testing::scripted(1, "stubborn", {0, 1}));
  const int first = std::stoi(agent.wait_for("[rank 0] pid ")), second = std::stoi(agent.wait_for("[rank 1] pid "));
  agent.signal(SIGKILL);
  EXPECT_EQ(agent.wait(), 128 + SIGKILL);
  EXPECT_TRUE(is_gone_soon(first));
  EXPECT_TRUE(is_gone_soon(second));
}

TEST_F(AgentCommandTest, ReapsOrphans) {
  WorkerProgram agent(arguments(), {});
  const auto port = port_of(agent);
  put(port, testing::scripted(1, "child exit:1"));
  const int orphan = std::stoi(agent.wait_for("[rank 0] child "));
  const auto until = std::chrono::steady_clock::now() + testing::kPatience;
  // Not by a look into /proc: a file of a process that is reaped in that moment is an error to std::filesystem.
  const auto is_there = [orphan] { return kill(orphan, 0) == 0; };
  while (is_there() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  EXPECT_FALSE(is_there()) << "not even as a zombie";
}

TEST_F(AgentCommandTest, EndsWith1WhenItIsReleasedAfterAFailure) {
  WorkerProgram agent(arguments(), {});
  const auto port = port_of(agent);
  auto assignment = testing::scripted(1, "exit:1");
  put(port, assignment);
  agent.wait_for("rank ended");
  assignment.release = true;
  put(port, assignment);
  EXPECT_EQ(agent.wait(), 1);
}

TEST_F(AgentCommandTest, SaysWhatItLacks) {
  WorkerProgram no_uid({"agent", "--key-file", key.string()}, {"TRAINYARD_POD_UID="});
  EXPECT_EQ(no_uid.wait(), 2);
  EXPECT_NE(no_uid.errors().find("TRAINYARD_POD_UID"), std::string::npos) << no_uid.errors();
  WorkerProgram no_key({"agent", "--pod-uid", "u", "--key-file", "/nowhere"}, {});
  EXPECT_EQ(no_key.wait(), 1);
  EXPECT_NE(no_key.errors().find("64 hexadecimal digits"), std::string::npos) << no_key.errors();
}

}  // namespace
}  // namespace trainyard::agent
