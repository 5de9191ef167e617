# Fails, naming them, if sources are not formatted as .clang-format says. Run in residency's own folder with CLANG_FORMAT.

file(GLOB_RECURSE sources include/*.hpp examples/*.hpp examples/*.cpp tests/*.hpp tests/*.cpp)
# Texts of mistakes: their lines are counted.
list(FILTER sources EXCLUDE REGEX "/must_not_compile/")
if(NOT sources)
    message(FATAL_ERROR "there are no sources here")
endif()
execute_process(COMMAND "${CLANG_FORMAT}" --dry-run -Werror ${sources} RESULT_VARIABLE code)
if(code)
    message(FATAL_ERROR "mend it by `clang-format -i` on the files above")
endif()

# clang-format leaves comments as they are: their lines are measured here, against its ColumnLimit.
set(too_long "")
foreach(source IN LISTS sources)
    file(STRINGS "${source}" lines LENGTH_MINIMUM 121 REGEX "^ *//")
    foreach(line IN LISTS lines)
        string(APPEND too_long "${source}: ${line}\n")
    endforeach()
endforeach()
if(too_long)
    message(FATAL_ERROR "comments past 120 columns:\n${too_long}")
endif()
