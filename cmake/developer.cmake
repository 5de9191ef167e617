# How residency's own tests and examples are compiled. Nothing of this reaches a project that uses residency.

set(residency_warnings -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
# Warnings of one compiler alone: also used where tests/headers calls the other compiler by hand.
set(residency_warnings_GNU "")
set(residency_warnings_Clang -Wthread-safety)

add_library(residency_developer INTERFACE)
target_compile_options(residency_developer INTERFACE ${residency_warnings} ${residency_warnings_${CMAKE_CXX_COMPILER_ID}})
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 22)
    # Catch2's macros have __COUNTER__ in them, which clang 22 takes for an extension of C2y.
    target_compile_options(residency_developer INTERFACE -Wno-c2y-extensions)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # It looks for what it can forget from 128 MB on, again and again, which takes a tenth of the time. Few of our files need a gigabyte.
    target_compile_options(residency_developer INTERFACE --param=ggc-min-heapsize=1048576)
endif()

if(RESIDENCY_SANITIZE STREQUAL "thread")
    set(sanitizer -fsanitize=thread)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        # g++ warns that TSan does not know std::atomic_thread_fence, which Asio uses.
        target_compile_options(residency_developer INTERFACE -Wno-tsan)
    endif()
elseif(RESIDENCY_SANITIZE STREQUAL "address")
    set(sanitizer -fsanitize=address,undefined)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
        # clang 14 cannot combine this check with coroutines.
        list(APPEND sanitizer -fno-sanitize=function)
    elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        # g++ 12 with either sanitizer takes Asio's use_future for uninitialized, in an initiating function of anybody's.
        target_compile_options(residency_developer INTERFACE -Wno-maybe-uninitialized)
    endif()
elseif(RESIDENCY_SANITIZE)
    message(FATAL_ERROR "RESIDENCY_SANITIZE is `thread` or `address`, not `${RESIDENCY_SANITIZE}`")
endif()
if(RESIDENCY_SANITIZE)
    # -O1: sanitized code without it is several times slower, and -O2 makes its reports harder to read.
    target_compile_options(residency_developer INTERFACE ${sanitizer} -fno-sanitize-recover=all -fno-omit-frame-pointer -O1)
    target_link_options(residency_developer INTERFACE ${sanitizer})
endif()

# Adds a program of ours: residency, our warnings, and the sanitizer if one is chosen.
function(residency_add_program target)
    add_executable(${target} ${ARGN})
    set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
    target_link_libraries(${target} PRIVATE residency::residency residency_developer)
endfunction()

# Has `target` take what every slot on the ordinary clock is made of from a static library, which the tests bring. Not for one with flags of its
# own, which are to reach all of it.
function(residency_share_compiled target)
    if(TARGET residency_source)
        target_link_libraries(${target} PRIVATE residency_source)
    endif()
endfunction()
