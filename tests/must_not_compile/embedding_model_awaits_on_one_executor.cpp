// The library runs what an asynchronous model gives on a strand of its own, whatever executor the model would like.
// GNU: what an asynchronous model gives must take boost::asio::any_io_executor as its executor
// Clang: what an asynchronous model gives must take boost::asio::any_io_executor as its executor

#include "residency/backends/lexical.hpp"
#include "residency/model_manager.hpp"

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

void use() { residency::ModelManager<Mine, residency::LexicalRerankerBackend> models{Mine(), {}}; }
