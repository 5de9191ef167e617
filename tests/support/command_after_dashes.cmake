# Included by a script that runs a command: sets `command` to what follows `--` on the script's command line.

set(command "")
set(seen_end FALSE)
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(index RANGE ${last})
    if(seen_end)
        list(APPEND command "${CMAKE_ARGV${index}}")
    elseif(CMAKE_ARGV${index} STREQUAL "--")
        set(seen_end TRUE)
    endif()
endforeach()
