#pragma once

#include "residency/backends/remote/answer.hpp"
#include "residency/backends/remote/endpoint.hpp"

#include <string>
#include <string_view>

namespace residency::detail::remote {

/// A path below the base URL, and what is sent there.
struct Post {
    /// `/embeddings` and so on.
    std::string path{};
    /// JSON.
    std::string body{};
};

/// What a model is asked, in the words of whichever endpoint gets it, and what becomes of the answer.
class Question {
public:
    Question() = default;
    Question(const Question&) = delete;
    Question& operator=(const Question&) = delete;
    virtual ~Question() = default;

    /// What errors call one of what it asks about.
    [[nodiscard]] virtual std::string_view noun() const noexcept { return "text"; }
    /// What is sent to this endpoint.
    [[nodiscard]] virtual Post post(const Endpoint& endpoint) = 0;
    /// Reads the body of an answer. Throws BrokenAnswer if it is not what the dialect has, and Error with `bad_result`
    /// if its numbers cannot be used.
    virtual void read(Endpoint& endpoint, std::string_view body) = 0;
    /// The endpoint refused it with this answer; whether to ask it once more, for which `post` then gives another form.
    [[nodiscard]] virtual bool ask_otherwise(Endpoint& /*endpoint*/, const Answer& /*answer*/) { return false; }
};

}  // namespace residency::detail::remote
