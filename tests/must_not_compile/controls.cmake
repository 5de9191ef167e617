# Checks that a compiler compiles the controls of the sources, each in a namespace of its own in TOGETHER, which is written here; see
# CMakeLists.txt. The compiler names the source of one that it does not compile.
#
# Usage: cmake "-DSOURCES=FILE|FILE..." -DTOGETHER=FILE -P controls.cmake -- COMPILER ARGUMENT...

include("${CMAKE_CURRENT_LIST_DIR}/../support/command_after_dashes.cmake")

set(ENV{LC_ALL} C)

# What they include comes first: inside of a namespace it is then included already.
set(includes "")
set(controls "")
string(REPLACE "|" ";" sources "${SOURCES}")
foreach(source IN LISTS sources)
    file(STRINGS "${source}" lines REGEX "^#include ")
    list(APPEND includes ${lines})
    cmake_path(GET source STEM name)
    string(APPEND controls "namespace ${name} {\n#include \"${source}\"\n}\n")
endforeach()
list(REMOVE_DUPLICATES includes)
list(JOIN includes "\n" includes)
file(WRITE "${TOGETHER}" "${includes}\n${controls}")

execute_process(COMMAND ${command} -DCONTROL "${TOGETHER}" RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT result EQUAL 0)
    message("${output}")
    message(FATAL_ERROR "refused: a control does not compile")
endif()
