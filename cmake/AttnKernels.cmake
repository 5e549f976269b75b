# Kernels: their sources, embedded in the library.

# Sources of kernels, and the headers that host compilers read too.
file(
  GLOB_RECURSE attn_kernel_sources CONFIGURE_DEPENDS
  RELATIVE ${PROJECT_SOURCE_DIR}
  ${PROJECT_SOURCE_DIR}/backends/gpu/*.cuh ${PROJECT_SOURCE_DIR}/backends/cuda/*.cuh
  ${PROJECT_SOURCE_DIR}/backends/gpu/params.h ${PROJECT_SOURCE_DIR}/backends/cuda/params.h
  ${PROJECT_SOURCE_DIR}/backends/gpu/types.h ${PROJECT_SOURCE_DIR}/backends/gpu/shape.h)

# attn_embed_sources(OUTPUT NAME ROOT PATH...): a C++ file in which attn::kernel::NAME() returns these texts.
function(attn_embed_sources output name root)
  set(files ${ARGN})
  list(SORT files)
  list(TRANSFORM files PREPEND ${root}/ OUTPUT_VARIABLE paths)
  list(JOIN files "," list)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -D ROOT=${root} -D FILES=${list} -D FUNCTION=${name} -D OUTPUT=${output} -P
            ${PROJECT_SOURCE_DIR}/cmake/AttnKernelSources.cmake
    DEPENDS ${paths} ${PROJECT_SOURCE_DIR}/cmake/AttnKernelSources.cmake
    COMMENT "Embedding the sources of kernels"
    VERBATIM)
endfunction()

attn_embed_sources(${PROJECT_BINARY_DIR}/kernel/sources.cc embedded_sources ${PROJECT_SOURCE_DIR} ${attn_kernel_sources})
