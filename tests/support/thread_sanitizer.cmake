# launch_thread: what a program with ThreadSanitizer is started with. That of g++ 12 and clang 14 does not start where addresses are
# randomised by more than 28 bits.
set(launch_thread "")
if(EXISTS /proc/sys/vm/mmap_rnd_bits)
    file(STRINGS /proc/sys/vm/mmap_rnd_bits random_bits LIMIT_COUNT 1)
    if(random_bits GREATER 28)
        execute_process(COMMAND setarch -R true RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
        if(failed EQUAL 0)
            set(launch_thread setarch -R)
        endif()
    endif()
endif()
