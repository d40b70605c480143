#include "crds/contract/host_port.h"

#include <gtest/gtest.h>

namespace trainyard::contract {
namespace {

TEST(HostPort, IsReadWithAndWithoutAPort) {
  EXPECT_EQ(read_host_port("10.0.0.7:8471"), (HostPort{"10.0.0.7", 8471}));
  EXPECT_EQ(read_host_port("[fd00::7]:8471"), (HostPort{"fd00::7", 8471}));
  EXPECT_EQ(read_host_port("[fd00::7]"), (HostPort{"fd00::7", std::nullopt}));
  EXPECT_EQ(read_host_port("collector"), (HostPort{"collector", std::nullopt}));
  EXPECT_EQ(read_host_port(":8080"), (HostPort{"", 8080}));
  EXPECT_EQ(read_host_port("127.0.0.1:0"), (HostPort{"127.0.0.1", 0}));
  EXPECT_EQ(read_host_port(""), (HostPort{"", std::nullopt}));
}

TEST(HostPort, IsRefusedWhereItIsNone) {
  for (const char* text :
       {"a:", "a:b", "a:65536", "a:-1", "a:1x", "a: 1", "[fd00::7:8471", "[fd00::7]8471", "fd00::7]:1", "[[::1]]:1", ":"}) {
    EXPECT_EQ(read_host_port(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace trainyard::contract
