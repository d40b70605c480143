#include "worker/agent/rank_process.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <deque>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/write.hpp>

#include "crds/contract/state.h"
#include "worker/agent/line_splitter.h"

namespace trainyard::agent {
namespace {

namespace asio = boost::asio;

[[noreturn]] void throw_errno(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

/// A descriptor that is closed at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}
  Descriptor(Descriptor&& other) noexcept : value_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

struct Pipe {
  Descriptor reader, writer;
};

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("make a pipe");
  return {.reader = Descriptor(ends[0]), .writer = Descriptor(ends[1])};
}

/// What the new process does before it becomes the program: only calls that are allowed after a fork of a process with threads.
[[noreturn]] void become(const char* program, int input, int log, int report, int trouble, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // the parent was gone before the line above
  ::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // First out of the way of 0 to 3, then to their places.
  const int high_input = ::fcntl(input, F_DUPFD_CLOEXEC, 16), high_log = ::fcntl(log, F_DUPFD_CLOEXEC, 16);
  const int high_report = ::fcntl(report, F_DUPFD_CLOEXEC, 16), high_trouble = ::fcntl(trouble, F_DUPFD_CLOEXEC, 16);
  if (::dup2(high_input, 0) >= 0 && ::dup2(high_log, 1) >= 0 && ::dup2(high_log, 2) >= 0 &&
      ::dup2(high_report, contract::kReportDescriptor) >= 0) {
    // Asio's sockets would stay open in the child, and the port taken after the agent has gone.
    ::close_range(contract::kReportDescriptor + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    char* const arguments[] = {const_cast<char*>(program), nullptr};
    ::execv(program, arguments);
  }
  const int error = errno;
  [[maybe_unused]] const auto written = ::write(high_trouble, &error, sizeof error);
  ::_exit(127);
}

}  // namespace

void check_rank_program(const std::string& program) {
  if (::access(program.c_str(), X_OK) == 0) return;
  throw std::invalid_argument("the rank program " + program +
                              " is not there, or cannot be executed; say where it is with --rank-program");
}

struct RankProcess::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& io, Sinks sinks)
      : input(io),
        log(io),
        report(io),
        log_lines(std::size_t{8} * 1024, std::move(sinks.log_line)),
        report_lines(std::size_t{1024} * 1024, std::move(sinks.report_line)) {}

  void start(const std::string& program) {
    Pipe to_input = make_pipe(), from_log = make_pipe(), from_report = make_pipe(), trouble = make_pipe();
    const pid_t parent = ::getpid();
    pid = ::fork();
    if (pid < 0) throw_errno("fork for " + program);
    if (pid == 0) {
      become(program.c_str(), to_input.reader.get(), from_log.writer.get(), from_report.writer.get(), trouble.writer.get(),
             parent);
    }
    ::setpgid(pid, pid);  // in both processes, so that the group is there whoever runs first
    trouble.writer = Descriptor();
    int error = 0;
    ssize_t got = -1;
    do {  // another rank's end may interrupt it
      got = ::read(trouble.reader.get(), &error, sizeof error);
    } while (got < 0 && errno == EINTR);
    if (got == sizeof error) {
      ::waitpid(pid, nullptr, 0);
      pid = -1;
      throw std::system_error(error, std::generic_category(), "execute " + program);
    }
    const auto adopt = [](asio::posix::stream_descriptor& stream, Descriptor& end) {
      stream.assign(end.release());
      stream.non_blocking(true);
    };
    adopt(input, to_input.writer);
    adopt(log, from_log.reader);
    adopt(report, from_report.reader);
    read_on(log, log_lines);
    read_on(report, report_lines);
  }

  using Buffer = std::array<char, std::size_t{16} * 1024>;

  /// Waits, and reads only in the handler: a read that the io_context had done, but whose handler it had not called yet, would come
  /// after what drain() reads.
  void read_on(asio::posix::stream_descriptor& stream, LineSplitter& lines) {
    stream.async_wait(asio::posix::stream_descriptor::wait_read, [self = shared_from_this(), &stream, &lines](auto error) {
      if (error) return;
      Buffer buffer;
      const std::size_t size = stream.read_some(asio::buffer(buffer), error);
      if (error && error != asio::error::would_block) return;
      lines.add({buffer.data(), size});
      self->read_on(stream, lines);
    });
  }

  void write_on() {
    asio::async_write(input, asio::buffer(to_write.front()), [self = shared_from_this()](auto error, std::size_t) {
      if (error) {
        self->to_write.clear();
        self->input_closed = true;
        return;
      }
      self->to_write.pop_front();
      if (!self->to_write.empty()) self->write_on();
    });
  }

  /// What is in the pipes when the child has ended. Not until their end: a process that left the group may still hold them open.
  static void drain(asio::posix::stream_descriptor& stream, LineSplitter& lines) {
    Buffer buffer;
    boost::system::error_code error;
    while (true) {
      const std::size_t size = stream.read_some(asio::buffer(buffer), error);
      if (error) break;
      lines.add({buffer.data(), size});
    }
    lines.finish();
    stream.close(error);
  }

  asio::posix::stream_descriptor input, log, report;
  LineSplitter log_lines, report_lines;
  std::deque<std::string> to_write;
  bool input_closed = false;
  pid_t pid = -1;
  int exit_code = 0;
  int signal = 0;
};

RankProcess::RankProcess(asio::io_context& io, const std::string& program, Sinks sinks)
    : impl_(std::make_shared<Impl>(io, std::move(sinks))) {
  impl_->start(program);
}

RankProcess::~RankProcess() {
  // The handlers keep Impl alive for a moment, but the sinks' owner may be gone by then.
  impl_->log_lines = LineSplitter(1, [](std::string_view) {});
  impl_->report_lines = LineSplitter(1, [](std::string_view) {});
  if (impl_->pid > 0) {
    kill();
    ::waitpid(impl_->pid, nullptr, 0);
  }
  boost::system::error_code ignored;
  impl_->input.close(ignored);
  impl_->log.close(ignored);
  impl_->report.close(ignored);
}

int RankProcess::pid() const { return impl_->pid; }

void RankProcess::send(const std::string& line) {
  if (impl_->input_closed || !impl_->input.is_open()) return;
  impl_->to_write.push_back(line + "\n");
  if (impl_->to_write.size() == 1) impl_->write_on();
}

void RankProcess::kill() {
  if (impl_->pid > 0) ::kill(-impl_->pid, SIGKILL);
}

bool RankProcess::reaped() {
  if (impl_->pid <= 0) return true;
  siginfo_t info{};
  // Looked at but not reaped yet: until then the process group's number cannot belong to anybody else.
  if (::waitid(P_PID, static_cast<id_t>(impl_->pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return false;
  kill();
  ::waitpid(impl_->pid, nullptr, 0);
  impl_->pid = -1;
  if (info.si_code == CLD_EXITED) {
    impl_->exit_code = info.si_status;
  } else {
    impl_->signal = info.si_status;
  }
  Impl::drain(impl_->report, impl_->report_lines);
  Impl::drain(impl_->log, impl_->log_lines);
  boost::system::error_code ignored;
  impl_->input.close(ignored);
  return true;
}

int RankProcess::exit_code() const { return impl_->exit_code; }
int RankProcess::signal() const { return impl_->signal; }

}  // namespace trainyard::agent
