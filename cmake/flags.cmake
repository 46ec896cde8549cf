# No contraction, so that the same source gives the same bits with and without vectors; explicit fma
# stands where the speed is wanted. errno and traps off: else sqrt keeps loops from vectorising.
target_compile_options(varion_common INTERFACE
  $<$<CXX_COMPILER_ID:GNU,Clang>:-ffp-contract=off -fno-math-errno -fno-trapping-math>)
if(VARION_GPU STREQUAL cuda)
  target_compile_options(varion_common INTERFACE -fmad=false -diag-suppress=1675)  # 1675: GCC's pragmas
  # Kokkos links the driver's library, which exists only beside a driver, and may use nothing of it: the program
  # then starts without, and says so.
  target_link_options(varion_common INTERFACE -Wl,--as-needed)
endif()
# Warnings are the host builds' business: vendors' compilers add their own about code that they generate.
if(NOT VARION_GPU)
  target_compile_options(varion_common INTERFACE
    $<$<CXX_COMPILER_ID:GNU,Clang>:-Wall -Wextra -Wconversion -Wshadow -Wno-unknown-pragmas>)
endif()
if(VARION_ARCH)
  target_compile_options(varion_common INTERFACE -march=${VARION_ARCH})
endif()
if(VARION_SANITIZE)
  target_compile_options(varion_common INTERFACE -fsanitize=${VARION_SANITIZE}
    -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_compile_options(varion_common INTERFACE -g1)  # lines for reports; more than them took a quarter of the build
  # With a sanitizer GCC sees uninitialised values inside std::regex that are none (its manual says so).
  target_compile_options(varion_common INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(varion_common INTERFACE -fsanitize=${VARION_SANITIZE})
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g")
find_program(VARION_CCACHE ccache)
if(VARION_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${VARION_CCACHE})
endif()
