# residency::llama_cpp: models from GGUF files, computed by llama.cpp. llama.cpp is taken from the first of: a target `llama`
# that is already there, an installed package, its sources at tag v0.5.0 (FETCHCONTENT_SOURCE_DIR_LLAMA_CPP may name them).

# Makes the target `llama` from llama.cpp's sources. Its options are set for it alone: in a function, and so for its
# directory, but not for who includes us.
function(residency_build_llama)
    message(STATUS "residency: no llama.cpp 0.5 is installed, taking its sources")
    foreach(part IN ITEMS COMMON SERVER TOOLS TESTS EXAMPLES APP)
        set(LLAMA_BUILD_${part} OFF)
    endforeach()
    # llama.cpp writes both into the cache, for the whole build, where they are not set. Without optimisation it is not usable.
    if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
        set(CMAKE_BUILD_TYPE Release)
    endif()
    set(BUILD_SHARED_LIBS "${BUILD_SHARED_LIBS}")
    include(FetchContent)
    FetchContent_Declare(
        llama_cpp
        GIT_REPOSITORY https://github.com/ggml-org/llama.cpp.git
        GIT_TAG v0.5.0
        GIT_SHALLOW ON
        SYSTEM
    )
    FetchContent_MakeAvailable(llama_cpp)
endfunction()

# Sets `result` to the include directories of `target` and of what it links, as far as they are targets.
function(residency_include_directories result target)
    set(directories "")
    set(open "${target}")
    set(seen "")
    while(open)
        list(POP_FRONT open next)
        if(NOT TARGET "${next}" OR next IN_LIST seen)
            continue()
        endif()
        list(APPEND seen "${next}")
        foreach(property IN ITEMS INTERFACE_INCLUDE_DIRECTORIES INTERFACE_LINK_LIBRARIES)
            get_target_property(values "${next}" ${property})
            if(NOT values)
                continue()
            endif()
            string(REGEX REPLACE "\\$<(BUILD_INTERFACE|LINK_ONLY):([^<>]*)>" "\\2" values "${values}")
            string(GENEX_STRIP "${values}" values)
            if(property STREQUAL "INTERFACE_INCLUDE_DIRECTORIES")
                list(APPEND directories ${values})
            else()
                list(APPEND open ${values})
            endif()
        endforeach()
    endwhile()
    list(REMOVE_DUPLICATES directories)
    set(${result} "${directories}" PARENT_SCOPE)
endfunction()

# Stops with a message if the target `llama`, made by the project around us, is not a llama.cpp that we know how to call.
function(residency_check_llama)
    residency_include_directories(directories llama)
    # Asked anew only when the target has other headers than last time.
    if(NOT "${RESIDENCY_LLAMA_CPP_CHECKED}" STREQUAL "${directories}")
        set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
        try_compile(
            fits "${CMAKE_CURRENT_BINARY_DIR}/residency_llama_cpp_check"
            SOURCES "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/llama_cpp_check.cpp"
            CMAKE_FLAGS "-DINCLUDE_DIRECTORIES:STRING=${directories}"
            CXX_STANDARD 20
            CXX_STANDARD_REQUIRED ON
            OUTPUT_VARIABLE output
        )
        if(NOT fits)
            message(
                FATAL_ERROR
                "residency: the target `llama` is not a llama.cpp that residency::llama_cpp can use; it needs 0.5, and was "
                "written for v0.5.0. What the compiler says:\n${output}"
            )
        endif()
        set(RESIDENCY_LLAMA_CPP_CHECKED "${directories}" CACHE INTERNAL "Headers that residency was compiled with")
    endif()
endfunction()

if(NOT TARGET llama)
    find_package(llama 0.5 QUIET)
endif()
if(NOT TARGET llama)
    residency_build_llama()
else()
    residency_check_llama()
endif()

residency_add_leaf(llama_cpp ${residency_llama_cpp_headers})
# A target of the same build cannot be exported by us, nor named by what we export: the installed component finds its own
# and links it.
target_link_libraries(residency_llama_cpp INTERFACE "$<BUILD_INTERFACE:llama>")
