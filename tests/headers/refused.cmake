# Checks that a compiler refuses the headers in words: the first error has the text, and what ends the compilation is the last.
#
# cmake -D TEXT=... -D "HEADERS=ONE|ANOTHER" -P refused.cmake -- COMPILER FLAG...

include("${CMAKE_CURRENT_LIST_DIR}/../support/command_after_dashes.cmake")

string(REPLACE "|" ";" headers "${HEADERS}")
foreach(header IN LISTS headers)
    execute_process(COMMAND ${command} "${header}" RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
    string(REGEX MATCHALL "[^\n]*error: [^\n]*" errors "${output}")
    list(LENGTH errors count)
    if(result EQUAL 0 OR NOT count EQUAL 2)
        message(SEND_ERROR "${header}: not refused by one #error: ${output}")
        continue()
    endif()
    list(GET errors 0 first)
    list(GET errors 1 second)
    if(NOT first MATCHES "${TEXT}" OR NOT second MATCHES "residency/stopped")
        message(SEND_ERROR "${header}: not refused in the words `${TEXT}`: ${output}")
    endif()
endforeach()
