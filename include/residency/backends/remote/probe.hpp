#pragma once

#include "residency/backend.hpp"
#include "residency/backends/remote/beast.hpp"
#include "residency/backends/remote/client.hpp"
#include "residency/backends/remote/question.hpp"

#include <exception>

namespace residency::detail::remote {

/// Asks `question` on this thread, as a load does: returns when an endpoint has answered it. No connection is left.
///
/// Throws what `Client::ask` throws.
inline void probe(Client& client, Question& question, const LoadContext& context) {
    asio::io_context io(1);
    std::exception_ptr thrown;
    asio::co_spawn(
        io, [&] { return client.ask(question, Stage::load, context.stop_token()); },
        [&thrown](const std::exception_ptr& error) { thrown = error; });
    io.run();
    client.drop_connections(io);
    if (thrown) {
        std::rethrow_exception(thrown);
    }
}

}  // namespace residency::detail::remote
