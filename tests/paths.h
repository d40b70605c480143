#pragma once
// Where a checkout and its programs are. One small source alone is compiled with these paths: what other checkouts compiled of all
// others can be taken from the compiler's cache.

namespace trainyard::test {

extern const char* const kSourceDir;  // the project's root
extern const char* const kBinDir;     // the programs of this build

}  // namespace trainyard::test
