// What a kernel of dense attention needs to run on the fibers. A file for each shape, made by CMake, defines the shape
// and ATTN_NAMES, then includes this and the kernel: everything of it goes into a namespace of that name, since other
// shapes define the same functions differently.
#pragma once

#include "tests/gpu_emulated/fibers.h"

#include <cmath>
#include <cstring>
#include <math.h>

#define attn ATTN_NAMES
