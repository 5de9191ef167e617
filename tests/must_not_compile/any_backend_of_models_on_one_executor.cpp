// What an asynchronous model gives is passed on as it is, so that its executor is that of the type-erased face.
// GNU: boost::asio::any_io_executor, its default
// Clang: boost::asio::any_io_executor, its default

#include "residency/backends/any.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <span>
#include <string>

struct Model {
#if defined(CONTROL)
    boost::asio::awaitable<residency::Embeddings> embed(std::span<const std::string> texts);
#else
    using Executor = boost::asio::io_context::executor_type;
    boost::asio::awaitable<residency::Embeddings, Executor> embed(std::span<const std::string> texts);
#endif
};

struct Mine {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey& key);
};

residency::AnyEmbeddingBackend use() { return residency::AnyEmbeddingBackend(Mine()); }
