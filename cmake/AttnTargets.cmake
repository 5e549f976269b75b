# The library: one set of objects, linked once as a shared and once as a static library.

find_package(Threads REQUIRED)
include(cmake/AttnKernels.cmake)

set(attn_sources
    src/abi.cc
    src/api.cc
    src/append.cc
    src/arguments.cc
    src/conv.cc
    src/dense.cc
    src/dense_tensors.cc
    src/describe.cc
    src/descriptor_parts.cc
    src/handle.cc
    src/linear.cc
    src/linear_tensors.cc
    src/merge.cc
    src/names.cc
    src/option_checks.cc
    src/overlap.cc
    src/scan.cc
    src/sequence.cc
    src/state.cc
    src/status.cc
    src/tensor_view.cc
    src/thread_pool.cc
    src/kernel/disk_cache.cc
    src/kernel/key.cc
    src/kernel/lz.cc
    src/kernel/nvrtc.cc
    src/kernel/pack.cc
    src/kernel/pack_builder.cc
    src/kernel/pack_path.cc
    src/kernel/sha256.cc
    src/kernel/source.cc
    src/kernel/store.cc
    src/kernel/target.cc
    src/kernel/trust.cc
    ${PROJECT_BINARY_DIR}/kernel/sources.cc
    src/mask/atom_table.cc
    src/mask/emit.cc
    src/mask/program.cc
    src/mask/read.cc
    backends/cpu/backend.cc
    backends/cpu/features.cc
    backends/cpu/lengths.cc
    backends/cpu/views.cc
    backends/cpu/append/channels.cc
    backends/cpu/append/rows.cc
    backends/cpu/append/write.cc
    backends/cpu/dense/column_mass.cc
    backends/cpu/dense/forward.cc
    backends/cpu/dense/forward_baseline.cc
    backends/cpu/dense/key_rows.cc
    backends/cpu/dense/schedule.cc
    backends/cpu/dense/sequences.cc
    backends/cpu/linear/call.cc
    backends/cpu/linear/checked.cc
    backends/cpu/linear/chunk_baseline.cc
    backends/cpu/linear/executor.cc
    backends/cpu/linear/reference.cc
    backends/cpu/linear/segments.cc
    backends/cpu/linear/state_elements.cc
    backends/cpu/linear/token_values.cc
    backends/cpu/merge/executor.cc
    backends/cpu/merge/merge_baseline.cc
    backends/cpu/merge/tokens.cc
    backends/cpu/sequence/call.cc
    backends/cpu/sequence/conv.cc
    backends/cpu/sequence/scan.cc
    backends/cpu/sequence/sequence_baseline.cc
    backends/cuda/backend.cc
    backends/cuda/context.cc
    backends/cuda/device.cc
    backends/cuda/driver.cc
    backends/cuda/kernels.cc
    backends/cuda/packing.cc
    backends/cuda/sm90_model.cc
    backends/cuda/sm90_refusal.cc
    backends/cuda/tensor_tiles.cc
    backends/cuda/decode_sm90/executor.cc
    backends/cuda/decode_sm90/splits.cc
    backends/cuda/decode_sm90/variants.cc
    backends/cuda/dense_sm90/executor.cc
    backends/cuda/dense_sm90/variants.cc
    backends/cuda/latent_sm90/executor.cc
    backends/cuda/latent_sm90/splits.cc
    backends/cuda/latent_sm90/variants.cc
    backends/cuda/default_kernels.cc
    backends/gpu/implementation.cc
    backends/gpu/plans.cc
    backends/gpu/recorder.cc
    backends/gpu/shape_override.cc
    backends/gpu/views.cc
    backends/gpu/append/executor.cc
    backends/gpu/dense/binding.cc
    backends/gpu/dense/executor.cc
    backends/gpu/dense/mask_bits.cc
    backends/gpu/dense/mask_plan.cc
    backends/gpu/dense/splits.cc
    backends/gpu/dense/variants.cc
    backends/gpu/merge/executor.cc)

# One translation unit per instruction set, picked at run time. Nothing in them may be shared with other units, or the
# linker could keep the copy that needs the newer processor (tests/abi checks that they define no weak symbol).
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  list(APPEND attn_sources backends/cpu/dense/forward_amx.cc backends/cpu/dense/forward_avx2.cc
       backends/cpu/dense/forward_avx512.cc backends/cpu/dense/forward_avx512_bf16.cc
       backends/cpu/linear/chunk_avx2.cc backends/cpu/linear/chunk_avx512.cc
       backends/cpu/merge/merge_avx2.cc backends/cpu/merge/merge_avx512.cc
       backends/cpu/sequence/sequence_avx2.cc backends/cpu/sequence/sequence_avx512.cc)
  set_source_files_properties(backends/cpu/dense/forward_avx2.cc backends/cpu/linear/chunk_avx2.cc
                              backends/cpu/merge/merge_avx2.cc backends/cpu/sequence/sequence_avx2.cc
                              PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
  set(attn_avx512 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  set_source_files_properties(backends/cpu/dense/forward_avx512.cc backends/cpu/linear/chunk_avx512.cc
                              backends/cpu/merge/merge_avx512.cc backends/cpu/sequence/sequence_avx512.cc
                              PROPERTIES COMPILE_OPTIONS "${attn_avx512}")
  # The tiles of AMX are written as assembly, so that unit needs no option of its own. No kernel throws; the destructor
  # that frees the tiles must not bring the weak symbol of a handler.
  set_source_files_properties(backends/cpu/dense/forward_avx512_bf16.cc backends/cpu/dense/forward_amx.cc
                              PROPERTIES COMPILE_OPTIONS "${attn_avx512};-mavx512bf16;-fno-exceptions")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  list(APPEND attn_sources backends/cpu/dense/forward_neon.cc backends/cpu/linear/chunk_neon.cc
       backends/cpu/merge/merge_neon.cc backends/cpu/sequence/sequence_neon.cc)
  # Scheduled before registers are allocated, the loads of a step would take registers from its accumulators.
  set_source_files_properties(backends/cpu/dense/forward_neon.cc
                              PROPERTIES COMPILE_OPTIONS "$<$<CXX_COMPILER_ID:GNU>:-fno-schedule-insns>")
endif()

add_library(attn_sanitize INTERFACE)
if(ATTN_SANITIZE)
  target_compile_options(attn_sanitize INTERFACE -fsanitize=${ATTN_SANITIZE} -fno-omit-frame-pointer
                                                 -fno-sanitize-recover=all)
  target_link_options(attn_sanitize INTERFACE -fsanitize=${ATTN_SANITIZE})
endif()
# For programs of tests, which would take half as long again to compile: undefined behaviour is looked for in what they
# test.
string(REGEX REPLACE ",?undefined" "" attn_sanitize_tests "${ATTN_SANITIZE}")
add_library(attn_sanitize_tests INTERFACE)
if(attn_sanitize_tests)
  target_compile_options(attn_sanitize_tests INTERFACE -fsanitize=${attn_sanitize_tests} -fno-omit-frame-pointer
                                                       -fno-sanitize-recover=all)
endif()
if(ATTN_SANITIZE)
  target_link_options(attn_sanitize_tests INTERFACE -fsanitize=${ATTN_SANITIZE})
endif()

# What everything compiled from src/ and backends/ for the library has.
function(attn_set_options target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(
    ${target}
    PROPERTIES CXX_EXTENSIONS OFF
               POSITION_INDEPENDENT_CODE ON
               CXX_VISIBILITY_PRESET hidden
               VISIBILITY_INLINES_HIDDEN ON)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src
                                               ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${target} PRIVATE ATTN_BUILDING ATTN_EXPERIMENTAL
                                               $<$<BOOL:${ATTN_EMULATE_AMX}>:ATTN_EMULATE_AMX>)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -fno-math-errno -ffp-contract=fast
                                           $<$<CXX_COMPILER_ID:GNU>:-Wno-psabi>
                                           $<$<BOOL:${ATTN_WERROR}>:-Werror>)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:attn_sanitize>)
endfunction()

add_library(attn_objects OBJECT ${attn_sources})
attn_set_options(attn_objects)
attn_add_packs()

add_library(attn SHARED $<TARGET_OBJECTS:attn_objects> $<TARGET_OBJECTS:attn_embedded_pack>)
add_library(attn::attn ALIAS attn)
set_target_properties(attn PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE CXX)
target_include_directories(attn INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                          $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_property(TARGET attn APPEND PROPERTY LINK_DEPENDS ${PROJECT_SOURCE_DIR}/src/attn.map)
target_link_options(
  attn
  PRIVATE
  -Wl,--version-script=${PROJECT_SOURCE_DIR}/src/attn.map
  -Wl,-Bsymbolic-functions
  -Wl,--exclude-libs,ALL
  -Wl,-z,relro
  -Wl,-z,now)
if(NOT ATTN_SANITIZE)
  # The C++ runtime stays inside, so that the host's own never matters. (Sanitizers bring theirs.)
  target_link_options(attn PRIVATE -static-libstdc++ -static-libgcc -Wl,--no-undefined)
endif()
target_link_libraries(attn PRIVATE $<BUILD_INTERFACE:attn_sanitize> Threads::Threads ${CMAKE_DL_LIBS})

add_library(attn_static STATIC $<TARGET_OBJECTS:attn_objects> $<TARGET_OBJECTS:attn_embedded_pack>)
add_library(attn::attn_static ALIAS attn_static)
set_target_properties(attn_static PROPERTIES OUTPUT_NAME attn)
target_compile_definitions(attn_static INTERFACE ATTN_STATIC)
target_include_directories(attn_static INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                                 $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(attn_static INTERFACE $<BUILD_INTERFACE:attn_sanitize> Threads::Threads ${CMAKE_DL_LIBS} stdc++ m)
