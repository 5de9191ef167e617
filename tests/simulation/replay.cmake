# Two processes print the same trace for the same seed, byte for byte (scenario 35).

foreach(seed RANGE 1 40)
    foreach(run IN ITEMS first second)
        execute_process(COMMAND "${PROGRAM}" --trace ${seed} OUTPUT_VARIABLE ${run} RESULT_VARIABLE result)
        if(NOT result EQUAL 0)
            message(FATAL_ERROR "seed ${seed} ended with ${result}:\n${${run}}")
        endif()
    endforeach()
    if(NOT first STREQUAL second OR first STREQUAL "")
        message(FATAL_ERROR "seed ${seed} gave two traces:\n${first}\n---\n${second}")
    endif()
endforeach()
