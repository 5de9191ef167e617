# The compiler that this build does not use, if it is here: some tests are there for both.
#
#   RESIDENCY_CLANG, RESIDENCY_GNU   where it is (with g++ and with clang++ respectively)
#   residency_add_clang_program()    a program that clang++ compiles in a build of g++'s

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    find_program(RESIDENCY_CLANG NAMES clang++ clang++-14 clang++-19 clang++-18 clang++-17 clang++-16 clang++-15)
    mark_as_advanced(RESIDENCY_CLANG)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    find_program(RESIDENCY_GNU NAMES g++)
    mark_as_advanced(RESIDENCY_GNU)
endif()

# Sets `result` to whether RESIDENCY_CLANG can compile and link a program with these options: its sanitizers are a package of their own.
function(residency_check_clang result)
    if(RESIDENCY_CLANG AND NOT DEFINED ${result})
        set(source "${CMAKE_CURRENT_BINARY_DIR}/${result}.cpp")
        file(CONFIGURE OUTPUT "${source}" CONTENT [[
#include <cstddef>
extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, std::size_t) { return 0; }
#ifndef FUZZER
int main() {}
#endif
]] @ONLY)
        set(fuzzer "")
        if("${ARGN}" MATCHES "fuzzer")
            set(fuzzer -DFUZZER)
        endif()
        execute_process(
            COMMAND "${RESIDENCY_CLANG}" -std=c++20 ${ARGN} ${fuzzer} "${source}" -o "${source}.out"
            RESULT_VARIABLE code OUTPUT_QUIET ERROR_QUIET
        )
        if(code EQUAL 0)
            set(${result} ON CACHE INTERNAL "Whether clang++ can: ${ARGN}")
        else()
            set(${result} OFF CACHE INTERNAL "Whether clang++ can: ${ARGN}")
        endif()
    endif()
endfunction()

# Adds the program `target`, which clang++ makes of `source` with our warnings and these options. Its tests start it as
# "$<TARGET_PROPERTY:<target>,PROGRAM>".
function(residency_add_clang_program target source)
    # In a folder of its own, as a target may not be named like a file.
    set(program "${CMAKE_CURRENT_BINARY_DIR}/clang/${target}")
    # /usr/include must not be named: it would come before the standard library's own wrappers.
    set(includes "$<FILTER:$<TARGET_PROPERTY:residency,INTERFACE_INCLUDE_DIRECTORIES>,EXCLUDE,^(/usr/include|${PROJECT_SOURCE_DIR}/include)$>")
    cmake_path(ABSOLUTE_PATH source)
    file(MAKE_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/clang")
    add_custom_command(
        OUTPUT "${program}"
        DEPFILE "${program}.d"
        DEPENDS "${source}"
        COMMAND
            ${CMAKE_CXX_COMPILER_LAUNCHER} "${RESIDENCY_CLANG}" -std=c++20 -g1 -O1 ${residency_warnings} ${residency_warnings_Clang} ${ARGN}
            "-I${PROJECT_SOURCE_DIR}/include" "-I${PROJECT_SOURCE_DIR}/tests" "$<$<BOOL:${includes}>:-isystem$<JOIN:${includes},;-isystem>>"
            -pthread -MD -MT "${program}" -MF "${program}.d" -c "${source}" -o "${program}.o"
        COMMAND "${RESIDENCY_CLANG}" ${ARGN} -pthread "${program}.o" -o "${program}"
        COMMENT "Building ${target} with clang++"
        COMMAND_EXPAND_LISTS
        VERBATIM
    )
    add_custom_target(${target} ALL DEPENDS "${program}")
    set_target_properties(${target} PROPERTIES PROGRAM "${program}")
endfunction()
