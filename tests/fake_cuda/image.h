// What the fake driver reads in the image of a module.
#ifndef ATTN_TESTS_FAKE_CUDA_IMAGE_H
#define ATTN_TESTS_FAKE_CUDA_IMAGE_H

#include <string>

namespace fake_cuda {

/// Copies an image, ELF or PTX; false for anything else.
bool read_image(const void *image, std::string *out, bool *is_ptx);

/// Whether an image defines a kernel, and how many parameters it takes: -1 where that is not found.
bool find_kernel(const std::string &image, bool is_ptx, const char *name, int *parameters);

} // namespace fake_cuda

#endif
