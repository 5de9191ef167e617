# The component llama_cpp: residency::llama_cpp.

find_package(llama 0.5 QUIET)
set(residency_llama_cpp_FOUND ${llama_FOUND})
if(residency_llama_cpp_FOUND)
    include("${CMAKE_CURRENT_LIST_DIR}/residency-llama_cpp-targets.cmake")
endif()
