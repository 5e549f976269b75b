# Kernels: their sources, embedded in the library, and the pack of compiled ones.

# attn_embed_sources(OUTPUT NAME ROOT PATH...): a C++ file in which attn::kernel::NAME() returns these texts, and those of
# the headers that they include.
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
    DEPFILE ${output}.d
    COMMENT "Embedding the sources of kernels"
    VERBATIM)
endfunction()

file(
  GLOB_RECURSE attn_kernel_sources CONFIGURE_DEPENDS
  RELATIVE ${PROJECT_SOURCE_DIR}
  ${PROJECT_SOURCE_DIR}/backends/gpu/*.cuh ${PROJECT_SOURCE_DIR}/backends/cuda/*.cuh)
attn_embed_sources(${PROJECT_BINARY_DIR}/kernel/sources.cc embedded_sources ${PROJECT_SOURCE_DIR}
                   ${attn_kernel_sources})

# The compiler of kernels. The build needs none: without, the library carries sources only.
file(GLOB attn_nvrtc_packages $ENV{VIRTUAL_ENV}/lib/python3*/site-packages/nvidia/*/lib)
find_file(
  ATTN_NVRTC
  NAMES libnvrtc.so.13 libnvrtc.so.12
  HINTS ENV CUDA_HOME ENV CUDA_PATH ENV CONDA_PREFIX
  PATHS /usr/local/cuda ${attn_nvrtc_packages} /usr/lib/x86_64-linux-gnu /usr/lib64
  PATH_SUFFIXES lib64 lib
  NO_CMAKE_FIND_ROOT_PATH
  DOC "NVRTC, which compiles the kernels of the embedded pack")
# Sanitized and cross-compiled builds run no packer of their own.
if(ATTN_NVRTC AND NOT ATTN_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  set(attn_embed_packs ON)
else()
  set(attn_embed_packs OFF)
endif()
option(ATTN_EMBED_PACKS "Compile the default GPU kernels and embed them (needs NVRTC)" ${attn_embed_packs})
set(ATTN_PACK_CACHE "" CACHE PATH "Cache of compiled kernels for the build; empty: the user's, $ATTN_CACHE_DIR or ~/.cache/libattn")
set(ATTN_PACK_JOBS 2 CACHE STRING "Kernels that the build compiles at a time")

# attn_add_packs(): attn_embedded_pack, objects that go wherever attn_objects go.
function(attn_add_packs)
  if(NOT ATTN_EMBED_PACKS)
    add_library(attn_embedded_pack OBJECT src/kernel/no_embedded_pack.cc)
    attn_set_options(attn_embedded_pack)
    return()
  endif()
  if(NOT ATTN_NVRTC)
    message(FATAL_ERROR "ATTN_EMBED_PACKS needs NVRTC: set ATTN_NVRTC to the path of libnvrtc.so.13 or libnvrtc.so.12")
  endif()
  add_executable(attn_packer src/kernel/packer/main.cc src/kernel/no_embedded_pack.cc
                             $<TARGET_OBJECTS:attn_objects>)
  attn_set_options(attn_packer)
  target_link_libraries(attn_packer PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  # The packer writes the file only if it changes, and takes from the cache what was compiled before.
  set(pack ${PROJECT_BINARY_DIR}/kernel/default.attnpack)
  if(ATTN_PACK_CACHE)
    set(cache --cache ${ATTN_PACK_CACHE})
  endif()
  add_custom_command(
    OUTPUT ${pack}
    COMMAND attn_packer --output ${pack} --compiler ${ATTN_NVRTC} --jobs ${ATTN_PACK_JOBS} ${cache}
    DEPENDS attn_packer
    COMMENT "Compiling GPU kernels"
    VERBATIM)
  add_custom_target(attn_default_pack DEPENDS ${pack})
  # Further kernels of Hopper, for tests: not embedded.
  set(sm90_pack ${PROJECT_BINARY_DIR}/kernel/sm90.attnpack)
  add_custom_command(
    OUTPUT ${sm90_pack}
    COMMAND attn_packer --kernels sm90 --output ${sm90_pack} --compiler ${ATTN_NVRTC} --jobs ${ATTN_PACK_JOBS} ${cache}
    DEPENDS attn_packer
    COMMENT "Compiling GPU kernels of Hopper"
    VERBATIM)
  add_custom_target(attn_sm90_pack DEPENDS ${sm90_pack})
  add_library(attn_embedded_pack OBJECT src/kernel/embedded_pack.cc)
  attn_set_options(attn_embedded_pack)
  set_source_files_properties(src/kernel/embedded_pack.cc PROPERTIES OBJECT_DEPENDS ${pack})
  add_dependencies(attn_embedded_pack attn_default_pack)
  target_compile_definitions(attn_embedded_pack PRIVATE ATTN_EMBEDDED_PACK="${pack}")
endfunction()
