#pragma once

#include "residency/compiler.hpp"

#include <cstddef>
#include <exception>
#include <utility>

#if !defined(_MSC_VER)
#include <pthread.h>

#include <cfenv>
#include <string>
#include <system_error>
#endif

namespace residency::detail::llama_cpp {

#if defined(_MSC_VER)

/// Calls `function`. The regular expressions of this standard library throw before they run out of stack.
template <class Function>
void with_stack(std::size_t /*bytes*/, Function&& function) {
    std::forward<Function>(function)();
}

#else

/// Calls `function` on a thread that has at least `bytes` of stack and the default floating-point environment, and
/// waits for it; what it throws is thrown here. Only the stack that the call touches becomes memory. Throws
/// std::system_error if there is no such thread.
template <class Function>
void with_stack(std::size_t bytes, Function&& function) {
    struct Call {
        Function& function;
        std::exception_ptr thrown{};
    } call{function};
    const auto demand = [bytes](int error) {
        if (error != 0) {
            throw std::system_error(error, std::generic_category(),
                                    "no thread with a stack of " + std::to_string(bytes) + " bytes");
        }
    };
    struct Attributes {
        Attributes() = default;
        ~Attributes() { pthread_attr_destroy(&value); }
        Attributes(const Attributes&) = delete;
        Attributes& operator=(const Attributes&) = delete;
        pthread_attr_t value{};
    };
    pthread_t thread{};
    {
        Attributes attributes;
        demand(pthread_attr_init(&attributes.value));
        demand(pthread_attr_setstacksize(&attributes.value, bytes));
        demand(pthread_create(
            &thread, &attributes.value,
            [](void* argument) -> void* {
                std::fesetenv(FE_DFL_ENV);
                Call& mine = *static_cast<Call*>(argument);
                try {
                    mine.function();
                } catch (...) {
                    mine.thrown = std::current_exception();
                }
                return nullptr;
            },
            &call));
    }
    pthread_join(thread, nullptr);
    if (call.thrown) {
        std::rethrow_exception(call.thrown);
    }
}

#endif

}  // namespace residency::detail::llama_cpp
