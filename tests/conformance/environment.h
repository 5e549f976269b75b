// What the test programs print around their tests, and when they stop.
#pragma once

namespace conformance {

// After InitGoogleTest(): prints the seed and the summary; ends the program once a GPU is lost.
void set_up_environment();

} // namespace conformance
