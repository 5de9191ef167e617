// The whole of Boost.JSON, in this one file: residency::llama_cpp needs none that is compiled.

#include <boost/json/src.hpp>
