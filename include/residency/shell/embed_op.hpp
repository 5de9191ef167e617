#pragma once

#include "residency/backend.hpp"
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
    static constexpr bool stoppable = EmbedsWithToken<Model>;

    std::vector<std::string> texts;

    [[nodiscard]] Embeddings operator()(Model& model, const std::stop_token& stop) const {
        Embeddings embeddings = call_embed(model, texts, stop);
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
        const bool nothing_to_do = texts.empty();
        start_inference<Model>(std::forward<Handler>(handler), slot.owner(), key, options, invalid(key, options),
                               nothing_to_do, EmbedWork<Model>{std::move(texts)});
    }
};

}  // namespace residency::detail
