# Install rules: headers, both libraries, a CMake package and a pkg-config file. The installed tree may be moved.

include(CMakePackageConfigHelpers)

set(attn_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/attn)
set(attn_pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(
  TARGETS attn attn_static
  EXPORT attn_targets
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
          COMPONENT runtime
          NAMELINK_COMPONENT development
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(
  FILES ${PROJECT_SOURCE_DIR}/include/attn/attn.h ${PROJECT_SOURCE_DIR}/include/attn/attn.hpp
        ${PROJECT_SOURCE_DIR}/include/attn/recipes.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/attn
  COMPONENT development)
install(
  FILES ${PROJECT_SOURCE_DIR}/LICENSE
  DESTINATION ${CMAKE_INSTALL_DOCDIR}
  COMPONENT runtime)

install(
  EXPORT attn_targets
  NAMESPACE attn::
  FILE attn-targets.cmake
  DESTINATION ${attn_config_dir}
  COMPONENT development)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/attn-config.cmake.in ${PROJECT_BINARY_DIR}/attn-config.cmake
                              INSTALL_DESTINATION ${attn_config_dir})
# While the major version is 0 each minor version may change the ABI.
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(attn_compatibility SameMinorVersion)
else()
  set(attn_compatibility SameMajorVersion)
endif()
write_basic_package_version_file(${PROJECT_BINARY_DIR}/attn-config-version.cmake COMPATIBILITY ${attn_compatibility})
install(
  FILES ${PROJECT_BINARY_DIR}/attn-config.cmake ${PROJECT_BINARY_DIR}/attn-config-version.cmake
  DESTINATION ${attn_config_dir}
  COMPONENT development)

# attn.pc finds the prefix from its own place, unless absolute directories were asked for.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(attn_pc_prefix ${CMAKE_INSTALL_PREFIX})
  set(attn_pc_libdir ${CMAKE_INSTALL_FULL_LIBDIR})
  set(attn_pc_includedir ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
  file(RELATIVE_PATH attn_pc_prefix /${attn_pc_dir} /)
  string(REGEX REPLACE "/$" "" attn_pc_prefix "\${pcfiledir}/${attn_pc_prefix}")
  set(attn_pc_libdir \${prefix}/${CMAKE_INSTALL_LIBDIR})
  set(attn_pc_includedir \${prefix}/${CMAKE_INSTALL_INCLUDEDIR})
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/attn.pc.in ${PROJECT_BINARY_DIR}/attn.pc @ONLY)
install(
  FILES ${PROJECT_BINARY_DIR}/attn.pc
  DESTINATION ${attn_pc_dir}
  COMPONENT development)
