# Run after a test program was built: writes a file for ctest with an entry for each of its test cases.
#
# Catch2's own catch_discover_tests does the same, but splits a name at a semicolon and differs between versions 2 and 3.
#
#   TARGET, PROGRAM   the program
#   PREFIX, STEMS     of a program of several files: their stems, separated by commas; an entry is named after its file, with the prefix
#   CATCH2_VERSION    that it was built with
#   SKIPPED           the exit code that means skipped
#   RESULT            the file to write

if(CATCH2_VERSION VERSION_LESS 3)
    set(list_arguments --list-test-names-only)
    # Without it a name that matches no test case would pass.
    set(run_arguments "--warn NoTests")
else()
    set(list_arguments --list-tests --verbosity quiet)
    set(run_arguments "")
endif()

# Appends to `entries` those of the test cases that `specification` selects, named after `file`.
function(add_entries file)
    execute_process(COMMAND "${PROGRAM}" ${ARGN} ${list_arguments} OUTPUT_VARIABLE names ERROR_VARIABLE errors RESULT_VARIABLE result)
    # Catch2 2 exits with the number of test cases.
    if(NOT result MATCHES "^[0-9]+$" OR names STREQUAL "")
        message(FATAL_ERROR "${PROGRAM} ${ARGN} lists no test cases (${result})\n${names}${errors}")
    endif()

    # Not as a CMake list, in which semicolons and brackets have meanings of their own.
    while(NOT names STREQUAL "")
        string(FIND "${names}" "\n" end)
        if(end EQUAL -1)
            string(LENGTH "${names}" end)
        endif()
        string(SUBSTRING "${names}" 0 ${end} name)
        math(EXPR next "${end} + 1")
        string(LENGTH "${names}" length)
        if(next LESS length)
            string(SUBSTRING "${names}" ${next} -1 names)
        else()
            set(names "")
        endif()
        string(STRIP "${name}" name)
        if(name STREQUAL "")
            continue()
        endif()
        # What a test specification would read as more than a character.
        string(REGEX REPLACE "([][\\,\"])" "\\\\\\1" specification "${name}")
        string(APPEND entries
            "add_test([==[${file}: ${name}]==] [==[${PROGRAM}]==] [==[${specification}]==] ${run_arguments})\n"
            "set_tests_properties([==[${file}: ${name}]==] PROPERTIES SKIP_RETURN_CODE ${SKIPPED})\n"
        )
    endwhile()
    set(entries "${entries}" PARENT_SCOPE)
endfunction()

set(entries "")
if("${STEMS}" STREQUAL "")
    add_entries("${TARGET}")
else()
    string(REPLACE "," ";" stems "${STEMS}")
    foreach(stem IN LISTS stems)
        # Catch2's tag for the file that a test case is in; without those that are hidden.
        add_entries("${PREFIX}${stem}" --filenames-as-tags "[#${stem}]~[.]")
    endforeach()
endif()
file(WRITE "${RESULT}" "${entries}")
