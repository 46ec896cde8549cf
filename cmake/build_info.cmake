# build_info.hpp: what `varion info` and every posterior file say about the build. The git part is
# refreshed at each build, the rest at configure time.
set(info_dir ${CMAKE_BINARY_DIR}/generated)
string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
set(VARION_FLAGS "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${type}} -march=${VARION_ARCH}")
if(VARION_SANITIZE)
  string(APPEND VARION_FLAGS " -fsanitize=${VARION_SANITIZE}")
endif()
string(STRIP "${VARION_FLAGS}" VARION_FLAGS)
configure_file(${CMAKE_SOURCE_DIR}/cmake/build_info.hpp.in ${info_dir}/build_info.hpp @ONLY)
add_custom_target(varion_git BYPRODUCTS ${info_dir}/git_describe.hpp
  COMMAND ${CMAKE_COMMAND} -DOUT=${info_dir}/git_describe.hpp -DDIR=${CMAKE_SOURCE_DIR}
          -P ${CMAKE_SOURCE_DIR}/cmake/git_describe.cmake)
target_include_directories(varion_common INTERFACE ${info_dir})
add_dependencies(varion_common varion_git)  # whoever uses varion_common waits for it
