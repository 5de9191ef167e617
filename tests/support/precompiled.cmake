# Headers that many tests read which only compile, compiled in advance. It is done by a test that those have for a fixture, and not by the
# build, so that what they read is never older than its sources.

# Adds the test `name`: that the compiler `id` precompiles a header that includes `includes`, with these flags. Sets `result` to what a
# compilation with the same flags needs in order to begin with it; its test needs the fixture `name`.
function(residency_add_precompiled_test result name id compiler includes)
    string(MAKE_C_IDENTIFIER "${name}" file)
    set(header "${CMAKE_CURRENT_BINARY_DIR}/precompiled/${file}.hpp")
    file(CONFIGURE OUTPUT "${header}" CONTENT "${includes}" @ONLY)
    if(id STREQUAL "GNU")
        set(output "${header}.gch")
        # Not to use it silently would only take longer.
        set(${result} -Winvalid-pch -include "${header}" PARENT_SCOPE)
    else()
        set(output "${header}.pch")
        set(${result} -include-pch "${output}" PARENT_SCOPE)
        # Else each compilation instantiates anew what the header needs of templates, which takes a second.
        list(APPEND ARGN -fpch-instantiate-templates)
    endif()
    add_test(NAME "${name}" COMMAND "${compiler}" -std=c++20 ${ARGN} -x c++-header "${header}" -o "${output}" COMMAND_EXPAND_LISTS)
    set_tests_properties("${name}" PROPERTIES FIXTURES_SETUP "${name}")
endfunction()
