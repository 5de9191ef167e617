# The component llama_cpp: residency::llama_cpp.

find_package(llama 0.5 QUIET)
set(residency_llama_cpp_FOUND ${llama_FOUND})
if(residency_llama_cpp_FOUND)
    include("${CMAKE_CURRENT_LIST_DIR}/residency-llama_cpp-targets.cmake")
    # Not part of the export: see cmake/llama_cpp.cmake of the sources.
    set_property(TARGET residency::llama_cpp APPEND PROPERTY INTERFACE_LINK_LIBRARIES llama)
endif()
