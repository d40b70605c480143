#pragma once
// One rank as a child process: its pipes, its process group, its end.

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace boost::asio {
class io_context;
}

namespace trainyard::agent {

/// Throws std::invalid_argument, with what to do, where there is no program that can be executed: better at once than as a failed rank.
void check_rank_program(const std::string& program);

/// Lives on the io_context's one thread; the sinks are called there. The child
///   - leads a process group of its own, so that kill() reaches its children too;
///   - is killed by the kernel when the thread that made it ends (PR_SET_PDEATHSIG);
///   - reads lines from descriptor 0, writes its log to 1 and 2, which are one pipe, so that their order is kept, and reports to 3.
class RankProcess {
 public:
  struct Sinks {
    std::function<void(std::string_view)> log_line;     // at most 8 KB each
    std::function<void(std::string_view)> report_line;  // at most 1 MB each
  };

  /// Throws std::system_error where the program cannot be executed.
  RankProcess(boost::asio::io_context& io, const std::string& program, Sinks sinks);
  /// Kills the process group and reaps the child where it still runs.
  ~RankProcess();
  RankProcess(const RankProcess&) = delete;
  RankProcess& operator=(const RankProcess&) = delete;

  int pid() const;
  /// One line of input; the line end is added. Dropped when the child has closed its input: its exit will tell.
  void send(const std::string& line);
  /// SIGKILL to the whole process group. The end is seen by reaped().
  void kill();

  /// False while the child runs. Once it has ended, everything that it wrote has been handed to the sinks, what was left of its process
  /// group has been killed, and `exit_code` or `signal` is set.
  bool reaped();
  int exit_code() const;
  int signal() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace trainyard::agent
