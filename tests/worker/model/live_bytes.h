#pragma once
// Counts the bytes of the tensors on the CPU that are made while it is alive, exactly.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include <c10/core/CPUAllocator.h>

namespace trainyard::test {

/// One at a time.
class LiveBytes {
 public:
  LiveBytes() { c10::SetCPUAllocator(&counter(), kPriority); }
  ~LiveBytes() { c10::SetCPUAllocator(counter().underlying, kPriority); }
  LiveBytes(const LiveBytes&) = delete;
  LiveBytes& operator=(const LiveBytes&) = delete;

  static std::int64_t now() {
    const std::lock_guard lock(counter().mutex);
    return counter().live;
  }
  /// The most since it was last asked.
  static std::int64_t take_peak() {
    const std::lock_guard lock(counter().mutex);
    return std::exchange(counter().peak, counter().live);
  }

 private:
  static constexpr std::uint8_t kPriority = 200;

  // Never goes away, since a tensor may outlive the test.
  struct Counter : c10::Allocator {
    c10::DataPtr allocate(std::size_t bytes) override {
      c10::DataPtr data = underlying->allocate(bytes);
      void* const address = data.get();
      if (address == nullptr) return data;
      const std::lock_guard lock(mutex);
      live += static_cast<std::int64_t>(bytes);
      peak = std::max(peak, live);
      sizes[address] = static_cast<std::int64_t>(bytes);
      const c10::Device device = data.device();
      data.release_context();
      return {address, address, &Counter::release, device};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &Counter::release; }
    void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }

    static void release(void* address) {
      if (address == nullptr) return;
      {
        const std::lock_guard lock(counter().mutex);
        counter().live -= counter().sizes.at(address);
        counter().sizes.erase(address);
      }
      counter().underlying->raw_deleter()(address);
    }

    c10::Allocator* const underlying = c10::GetCPUAllocator();
    std::mutex mutex;
    std::int64_t live = 0, peak = 0;
    std::unordered_map<void*, std::int64_t> sizes;
  };
  static Counter& counter() {
    static auto* const counter = std::make_unique<Counter>().release();
    return *counter;
  }
};

}  // namespace trainyard::test
