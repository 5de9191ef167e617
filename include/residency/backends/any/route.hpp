#pragma once

#include "residency/backends/any/backend.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency {

namespace detail {

/// Whether `text` is of the form of `pattern`, where `*` stands for any characters, or none, and `?` for one byte.
[[nodiscard]] constexpr bool matches(std::string_view pattern, std::string_view text) noexcept {
    // Where to go on if what follows the latest star does not fit: that star takes one byte more.
    std::size_t star = std::string_view::npos;
    std::size_t taken = 0;
    std::size_t at = 0;
    std::size_t read = 0;
    while (read < text.size()) {
        if (at < pattern.size() && pattern[at] == '*') {
            star = at++;
            taken = read;
        } else if (at < pattern.size() && (pattern[at] == '?' || pattern[at] == text[read])) {
            ++at;
            ++read;
        } else if (star != std::string_view::npos) {
            at = star + 1;
            read = ++taken;
        } else {
            return false;
        }
    }
    return pattern.find_first_not_of('*', at) == std::string_view::npos;
}

}  // namespace detail

/// Some keys and the backend that they go to, for `route`.
template <class Backend>
struct Route {
    /// Which keys: `*` stands for any characters, or none, and `?` for one byte. With an `@` it is compared with
    /// `name@quantization`, where the quantization may be empty; without one with the name alone, so that it is about
    /// each quantization.
    std::string pattern{};
    /// The backend; not empty.
    Backend backend{};

    /// Whether the key is one of them.
    [[nodiscard]] bool matches(const ModelKey& key) const {
        return pattern.find('@') == std::string::npos ? detail::matches(pattern, key.name)
                                                      : detail::matches(pattern, key.name + '@' + key.quantization);
    }
};

/// A line of a table of embedding backends.
using EmbeddingRoute = Route<AnyEmbeddingBackend>;
/// A line of a table of reranker backends.
using RerankerRoute = Route<AnyRerankerBackend>;

namespace detail {

/// The first line whose pattern matches.
template <class Backend>
class RouteTable {
public:
    explicit RouteTable(std::vector<Route<Backend>> routes) : routes_(std::move(routes)) {
        for (const Route<Backend>& route : routes_) {
            if (!route.backend) {
                throw std::invalid_argument("residency: route: the backend of pattern '" + route.pattern +
                                            "' is empty");
            }
        }
    }

    [[nodiscard]] const Backend* operator()(const ModelKey& key) const {
        for (const Route<Backend>& route : routes_) {
            if (route.matches(key)) {
                return &route.backend;
            }
        }
        return nullptr;
    }
    [[nodiscard]] bool says_memory_needed() const {
        return std::all_of(routes_.begin(), routes_.end(),
                           [](const Route<Backend>& route) { return route.backend.says_memory_needed(); });
    }

private:
    std::vector<Route<Backend>> routes_;
};

/// Has each key's model loaded by the backend that `Choose` gives.
template <class Backend, class Choose>
class Router {
public:
    using model_type = typename Backend::model_type;

    explicit Router(Choose choose) : choose_(std::move(choose)) {}

    [[nodiscard]] std::unique_ptr<model_type> load(const ModelKey& key, LoadContext& context) const {
        return backend_of(key).load(key, context);
    }
    [[nodiscard]] bool knows(const ModelKey& key) const {
        const Backend* const backend = choose_(key);
        return backend != nullptr && backend->knows(key);
    }
    [[nodiscard]] std::optional<std::size_t> memory_needed(const ModelKey& key) const {
        return backend_of(key).memory_needed(key);
    }
    // Which backends a host's function gives is not known before it is called.
    [[nodiscard]] bool says_memory_needed() const {
        if constexpr (std::same_as<Choose, RouteTable<Backend>>) {
            return choose_.says_memory_needed();
        } else {
            return true;
        }
    }

private:
    [[nodiscard]] const Backend& backend_of(const ModelKey& key) const {
        const Backend* const backend = choose_(key);
        if (backend == nullptr) {
            throw Error(errc::unknown_model, key, Stage::load, "no route leads from this key to a backend");
        }
        return *backend;
    }

    Choose choose_;
};

/// What a function gives for a key: a pointer to a backend of type `Backend`.
template <class Choose, class Backend>
concept ChoosesBackend = std::move_constructible<Choose> &&
    (std::is_invocable_r_v<const Backend*, const Choose&, const ModelKey&>);

/// One backend of a table.
template <class Backend>
[[nodiscard]] Backend route_by(std::vector<Route<Backend>> table) {
    return Router<Backend, RouteTable<Backend>>(RouteTable<Backend>(std::move(table)));
}

}  // namespace detail

/// One backend of several: a key goes to the backend of the first pattern that it matches. A key that matches none is
/// `unknown_model`, and so is one that its backend does not know.
///
///     route({{"bge-*", LlamaCppEmbeddingBackend(...)}, {"*", LexicalEmbeddingBackend()}})
///
/// Throws std::invalid_argument if a backend is empty.
template <std::size_t Size>
[[nodiscard]] AnyEmbeddingBackend route(EmbeddingRoute (&&table)[Size]) {
    return detail::route_by(std::vector<EmbeddingRoute>(std::move_iterator(table), std::move_iterator(table + Size)));
}
/// The same for rerankers.
template <std::size_t Size>
[[nodiscard]] AnyRerankerBackend route(RerankerRoute (&&table)[Size]) {
    return detail::route_by(std::vector<RerankerRoute>(std::move_iterator(table), std::move_iterator(table + Size)));
}
/// The same of a table that was made at run time, of either kind.
template <class Backend>
[[nodiscard]] Backend route(std::vector<Route<Backend>> table) {
    return detail::route_by(std::move(table));
}

/// One backend of several: a key goes to the backend that `choose(key)` points to, or, if that is null, is
/// `unknown_model`. `choose` is called by `load`, `knows` and `memory_needed`: from any thread, several at once; it
/// must be quick. The backends must outlive the result. What a model needs counts as said; with a memory budget give
/// `SlotOptions::model_memory` if one of the backends does not say it.
template <detail::ChoosesBackend<AnyEmbeddingBackend> Choose>
[[nodiscard]] AnyEmbeddingBackend route(Choose choose) {
    return detail::Router<AnyEmbeddingBackend, Choose>(std::move(choose));
}
/// The same for rerankers.
template <detail::ChoosesBackend<AnyRerankerBackend> Choose>
[[nodiscard]] AnyRerankerBackend route(Choose choose) {
    return detail::Router<AnyRerankerBackend, Choose>(std::move(choose));
}

}  // namespace residency
