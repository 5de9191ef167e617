# What the projects here do alike: between consumer_begin() and consumer_end() they take in residency; then it is seen that nothing
# of theirs has changed and nothing of ours is in them, and their program is added.

# The names of the CMAKE_ and BUILD_ variables, but those that CMake itself or looking for threads, git and packages sets.
macro(consumer_variables result)
    get_cmake_property(${result} VARIABLES)
    list(FILTER ${result} INCLUDE REGEX "^(CMAKE|BUILD)_")
    list(FILTER ${result} EXCLUDE REGEX "^CMAKE_(HAVE_|USE_|THREAD_|REQUIRED_|CURRENT_|MATCH_|FIND_|ARG|PARENT_|DISABLE_FIND_|PROJECT_)")
endmacro()

macro(consumer_begin)
    consumer_variables(consumer_before)
    foreach(variable IN LISTS consumer_before)
        set("before_${variable}" "${${variable}}")
    endforeach()
endmacro()

# Sets `result` to all targets of the folder and of those below.
function(consumer_targets folder result)
    get_property(targets DIRECTORY "${folder}" PROPERTY BUILDSYSTEM_TARGETS)
    get_property(below DIRECTORY "${folder}" PROPERTY SUBDIRECTORIES)
    foreach(subfolder IN LISTS below)
        consumer_targets("${subfolder}" more)
        list(APPEND targets ${more})
    endforeach()
    set(${result} "${targets}" PARENT_SCOPE)
endfunction()

function(consumer_check)
    consumer_variables(after)
    foreach(variable IN LISTS after)
        if(NOT variable IN_LIST consumer_before)
            message(SEND_ERROR "${variable} was set, to `${${variable}}`")
        elseif(NOT "${${variable}}" STREQUAL "${before_${variable}}")
            message(SEND_ERROR "${variable} was `${before_${variable}}` and is `${${variable}}`")
        endif()
    endforeach()

    get_cmake_property(cached CACHE_VARIABLES)
    list(FILTER cached INCLUDE REGEX "^RESIDENCY_")
    if(cached)
        message(SEND_ERROR "in the cache: ${cached}")
    endif()

    foreach(property IN ITEMS COMPILE_OPTIONS COMPILE_DEFINITIONS LINK_OPTIONS SOURCES)
        get_target_property(value residency::residency INTERFACE_${property})
        if(value)
            message(SEND_ERROR "residency::residency gives ${property} to all: ${value}")
        endif()
    endforeach()

    if(residency_SOURCE_DIR)
        consumer_targets("${residency_SOURCE_DIR}" targets)
        list(REMOVE_ITEM targets residency boost_headers boost_asio_core boost_system boost_context)
        if(targets)
            message(SEND_ERROR "targets that were not asked for: ${targets}")
        endif()
    endif()
endfunction()

macro(consumer_end)
    consumer_check()
    enable_testing()
    add_executable(consumer ../main.cpp ../careless.cpp)
    target_link_libraries(consumer PRIVATE residency::residency)
    # Strict projects can include the headers: no warning is about those, not even one that no library can avoid (-Wpadded).
    set_source_files_properties(
        ../main.cpp PROPERTIES COMPILE_OPTIONS "-Wall;-Wextra;-Wpedantic;-Wconversion;-Wshadow;-Wundef;-Wpadded;-Werror"
    )
    add_test(NAME consumer COMMAND consumer)
endmacro()
