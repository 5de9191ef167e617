#pragma once

#include "residency/backend.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/not_a_number.hpp"
#include "residency/options.hpp"
#include "residency/shell/inference_op.hpp"
#include "residency/shell/request.hpp"
#include "residency/shell/slot_ref.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace residency::detail {

/// One `embed`: the texts, and the call with its result checked.
template <class Model>
struct EmbedWork {
    using result_type = Embeddings;
    static constexpr bool stoppable = takes_embed_as<Model> ? EmbedsAsWithToken<Model> : EmbedsWithToken<Model>;

    std::vector<std::string> texts;
    EmbedAs as;

    [[nodiscard]] Embeddings operator()(Model& model, const std::stop_token& stop) const {
        Embeddings embeddings = call_embed(model, texts, as, stop);
        if (embeddings.size() != texts.size()) {
            bad_result("the model gave " + std::to_string(embeddings.size()) + " rows for " +
                       std::to_string(texts.size()) + " texts");
        }
        const auto values = embeddings.values();
        const auto odd = std::find_if(values.begin(), values.end(), [](const float& value) { return is_nan(value); });
        if (odd != values.end()) {
            const auto position = static_cast<std::size_t>(odd - values.begin());
            bad_result("the model gave a NaN in the row of text " + std::to_string(position / embeddings.dimension()));
        }
        return embeddings;
    }
};

/// Starts `async_embed`.
template <class Slot, class Model>
struct InitiateEmbed {
    SlotRef<Slot> slot;

    template <class Handler>
    void operator()(Handler&& handler, const ModelKey& key, std::vector<std::string> texts,
                    const RequestOptions& options) const {
        std::exception_ptr error = invalid(key, options);
        if (!error && options.as != EmbedAs::as_is) {
            error = invalid_as(key, options.as);
        }
        const bool nothing_to_do = texts.empty();
        start_inference<Model>(std::forward<Handler>(handler), slot.owner(), key, options, std::move(error),
                               nothing_to_do, EmbedWork<Model>{std::move(texts), options.as});
    }

private:
    // What is wrong with `as`, which is not `as_is`, or null.
    [[nodiscard]] static std::exception_ptr invalid_as(const ModelKey& key, EmbedAs as) {
        if (as != EmbedAs::query && as != EmbedAs::document) {
            return make_error(Error(errc::invalid_request, key, Stage::admission,
                                    "RequestOptions::as is none of as_is, query and document"));
        }
        if constexpr (takes_embed_as<Model>) {
            return nullptr;
        } else {
            return make_error(Error(errc::invalid_request, key, Stage::admission,
                                    "the slot's models make no difference between queries and documents; leave "
                                    "RequestOptions::as at as_is"));
        }
    }
};

}  // namespace residency::detail
