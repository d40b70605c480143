#include "tests/paths.h"

namespace trainyard::test {

const char* const kSourceDir = TRAINYARD_SOURCE_DIR;
const char* const kBinDir = TRAINYARD_BIN_DIR;

}  // namespace trainyard::test
