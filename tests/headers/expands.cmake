# Checks that a source expands no macro with `a_macro_of_hosts` in it. That is seen in what the preprocessor makes of the source, which
# takes a tenth of the time of compiling it; where it fails, the compiler says where.
#
# cmake -P expands.cmake -- COMPILER FLAG... SOURCE

include("${CMAKE_CURRENT_LIST_DIR}/../support/command_after_dashes.cmake")

execute_process(COMMAND ${command} -E RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE errors)
string(FIND "${output}" "a_macro_of_hosts" position)
if(NOT result EQUAL 0)
    message(FATAL_ERROR "not preprocessed: ${errors}")
elseif(NOT position EQUAL -1)
    string(SUBSTRING "${output}" ${position} 200 expansion)
    execute_process(COMMAND ${command} -fsyntax-only ERROR_VARIABLE errors)
    message(FATAL_ERROR "expands `${expansion}`\n${errors}")
endif()
