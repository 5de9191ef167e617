# Checks that a compiler refuses a source, in the words that the source expects; see CMakeLists.txt.
#
# Usage: cmake -DID=GNU|Clang -DSOURCE=FILE -P check.cmake -- COMPILER ARGUMENT...

include("${CMAKE_CURRENT_LIST_DIR}/../support/command_after_dashes.cmake")

# The compiler's own words and plain quotes, whatever the reader's language.
set(ENV{LC_ALL} C)

file(STRINGS "${SOURCE}" expectations REGEX "^// ${ID}: ")
if(NOT expectations)
    message(FATAL_ERROR "refused: expects nothing of ${ID}: ${SOURCE}")
endif()

execute_process(COMMAND ${command} "${SOURCE}" RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(result EQUAL 0)
    message(FATAL_ERROR "refused: compiles, but must not: ${SOURCE}")
endif()
message("${output}")
foreach(expectation IN LISTS expectations)
    string(REGEX REPLACE "^// ${ID}: " "" expectation "${expectation}")
    string(FIND "${output}" "${expectation}" position)
    if(position EQUAL -1)
        message(FATAL_ERROR "refused: does not say `${expectation}`: ${SOURCE}")
    endif()
endforeach()
