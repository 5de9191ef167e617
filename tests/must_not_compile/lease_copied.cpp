// A lease is moved, not copied: it counts once.
// GNU: use of deleted function
// GNU: Lease(const residency::Lease<Model>&)
// GNU: // a lease counts once: hand it on with std::move(lease)
// Clang: call to deleted constructor of 'residency::Lease<Model>'
// Clang: // a lease counts once: hand it on with std::move(lease)

#include "residency/lease.hpp"

#include <utility>

struct Model {};

void use(residency::Lease<Model> lease);

void hand_on(residency::Lease<Model> lease) {
#if defined(CONTROL)
    use(std::move(lease));
#else
    use(lease);
#endif
}
